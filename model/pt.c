// pt - pytorch_model.bin.
#include "ckpt.h"

int pt_parse(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors) {
    (void)bytes;
    *tensors = NULL;
    *n_tensors = 0;
    return err_set("%s: %zu bytes in torch.save's form, which is not read yet; convert it to safetensors", path, n);
}
