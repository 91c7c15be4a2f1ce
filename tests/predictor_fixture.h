// predictor_fixture - tests/golden/predictor.h5 (tests/golden/make_predictor.py) for the tests of nets and predictors.
#pragma once
#include "opt_fixture.h"

static golden fixture;  // of it only the file is used

static inline int open_fixture(void **state) {
    (void)state;
    fixture =
        (golden){.name = "predictor.h5", .file = H5Fopen("tests/golden/predictor.h5", H5F_ACC_RDONLY, H5P_DEFAULT)};
    return fixture.file >= 0 ? 0 : -1;
}

static inline int close_fixture(void **state) {
    (void)state;
    return H5Fclose(fixture.file) >= 0 ? 0 : -1;
}

static inline double *read_of(const char *net_name, const char *what, size_t *n) {
    char *path = xasprintf("/%s/%s", net_name, what);
    double *x = golden_read_as(&fixture, path, H5T_NATIVE_DOUBLE, sizeof *x, n);
    free(path);
    return x;
}

static inline void narrow(float *to, const double *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = (float)from[i];
}
