// test_cuda_device - a CUDA device as a program meets it: its memory, and what is said of names and sizes that it has not.
#include "opt_fixture.h"
#include "shim.h"

static const ops *gpu;

// Copies of all sizes about the limits of the pinned buffers, zero, room.
static void memory_of_the_device(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 4, 65536, 65537, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20};
    const size_t most = 9 << 20;
    uint8_t *from = xmalloc(most), *to = xmalloc(most);
    for (size_t i = 0; i < most; i++) from[i] = (uint8_t)(i * 2654435761u >> 13);
    const size_t room = gpu->room();
    gpu->reserve(3 * most);
    assert_true(gpu->room() <= room - 3 * most);
    uint8_t *a = gpu->alloc(most), *b = gpu->alloc(most);
    gpu->get(to, a, most);
    for (size_t i = 0; i < most; i++) assert_int_equal(to[i], 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        gpu->put(a, from + i, sizes[i] - (i == 7) * 8);
        gpu->copy(b, a, sizes[i]);
        memset(to, 0xAA, most);
        gpu->get(to, b, sizes[i] - (i == 7) * 8);
        assert_same_bits("copy", to, from + i, sizes[i] - (i == 7) * 8);
    }
    gpu->zero(b, most);
    gpu->get(to, b, most);
    for (size_t i = 0; i < most; i++) assert_int_equal(to[i], 0);
    gpu->release(a);
    gpu->release(b);
    assert_true(gpu->room() == room);
    free(from), free(to);
}

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
    const char *const wrong[] = {"cuda:", "cuda:0,", "cuda:0,0", "cuda:,1", "cuda:-1", "cuda:0 1", "cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_null(ops_open(wrong[i]));
        assert_non_null(strstr(err_get(), "not one of cpu, cuda"));
    }
}

int main(void) {
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_of_the_device), cmocka_unit_test(errors_have_a_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
