// test_cuda_device - a CUDA device as a program meets it: what is said of names and sizes that it has not.
#include "opt_fixture.h"
#include "shim.h"

static const ops *gpu;

static void errors_have_a_line(void **state) {
    (void)state;
    assert_null(ops_open("cuda:99"));
    assert_non_null(strstr(err_get(), "--device cuda:99: there is no such GPU"));
    assert_null(ops_open("cuda:x"));
    assert_non_null(strstr(err_get(), "not one of cpu, cuda"));
    assert_ptr_equal(ops_open("cuda"), gpu);
    const size_t bytes[OPS_PARTS] = {(size_t)1 << 60};
    assert_int_equal(ops_plan(gpu, bytes, "activations"), -1);
    assert_non_null(strstr(err_get(), "activations take 1099511627776.0 MiB of cuda:0"));
    const char *const wrong[] = {"cuda:",
                                 "cuda:0,",
                                 "cuda:0,0",
                                 "cuda:,1",
                                 "cuda:-1",
                                 "cuda:0 1",
                                 "cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_null(ops_open(wrong[i]));
        assert_non_null(strstr(err_get(), "not one of cpu, cuda"));
    }
}

int main(void) {
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(errors_have_a_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
