// device - the options of where and how a program computes: a group of rows of its table (cli.h), and what they choose.
// A device is opened by its name alone with ops_open (ops.h).
#pragma once
#include "cli.h"
#include "ops.h"

typedef struct {
    char *name;
    dtype activations;
    long threads;  // 0: as threads.h says
} device_options;
extern const cli_option device_rows[];  // --device, --activations, --threads, of a device_options

// --weights, of an int: a dtype (weight_options), or -1: not given.
extern const cli_option weights_rows[];

// Sets the number of threads and opens the device. NULL and err_set.
const ops *device_open(const device_options *o);
// ", bf16 activations" and so on, for names of models whose results they change; "" where nothing is rounded.
const char *device_rounding(const device_options *o);
