// ops_memory - operations on memory of the device: the first of the groups of ops.h, which says how such a list is
// used. The host reads and writes that memory through get, put, zero and copy only. The CPU's is host memory.

// Cleared, 64-byte aligned. The program ends where there is no room. room: bytes that can still be allocated; reserve:
// the allocs that follow take so much together, so that one block can hold them.
OP(void *, alloc, (size_t bytes))
OP(void, release, (void *p))
OP(size_t, room, (void))
OP(void, reserve, (size_t bytes))

OP(void, put, (void *device, const void *host, size_t bytes))
OP(void, get, (void *host, const void *device, size_t bytes))
OP(void, zero, (void *p, size_t bytes))
OP(void, copy, (void *to, const void *from, size_t bytes))  // within the device

// Uploads beside the computation, through two buffers of `bytes` in turn. fill: host memory for what comes next; send:
// up to so many bytes of it on their way; take: where operations find in device memory what was sent last, until the
// next take. What is sent and never taken is replaced by what comes next.
OP(struct feed *, feed_new, (size_t bytes))
OP(void, feed_free, (struct feed * f))
OP(void *, feed_fill, (struct feed * f))
OP(void, feed_send, (struct feed * f, size_t bytes))
OP(void *, feed_take, (struct feed * f))

// Downloads beside the computation. fetch: `bytes` of device memory on their way to the host, as they are when the
// operations enqueued so far are done; returns where they will be after fetch_wait, which waits for nothing that was
// enqueued later. The first fetch after that begins to use the host's `bytes` from the front again; places are rounded
// up to multiples of FETCH_ALIGN.
OP(struct fetch *, fetch_new, (size_t bytes))
OP(void, fetch_free, (struct fetch * f))
OP(const void *, fetch, (struct fetch * f, const void *device, size_t bytes))
OP(void, fetch_wait, (struct fetch * f))

// Work beside the computation. What is enqueued between aside and back is of lane 0 .. OPS_LANES - 1: it comes after
// all that was enqueued before, and after what the lane has; what is enqueued later does not wait for it, until join.
// mark: a ticket for what the lane at work has been given so far (0 where none is). join: what follows comes after what
// a ticket of this pass stands for; 0: nothing. A lane takes minmax, linear of one row, cut_here, list_live and copy.
// On the CPU, and with several parts, everything is done in order, and tickets are 0.
OP(void, aside, (int lane))
OP(void, back, (void))
OP(long, mark, (void))
OP(void, join, (long ticket))

// A device of several parts (GPUs) has layers on each. What is allocated, reserved and computed from here on is of this
// part; the arrays of a computation are all of its part. put, get, zero, copy and release find out whose memory they
// are given. Returns the part's name.
OP(const char *, use, (int part))

// n random numbers of a type, uniform within +-bound, for weights that only have to be there. Number i comes from
// (seed, i) alone, by another generator on every kind of device.
OP(void, random, (void *to, dtype type, size_t n, double bound, uint64_t seed))
// to (W cols, W rows) = w transposed, in its type, which has no blocks
OP(void, transpose, (void *to, const weight *w))
// *sum = the sum of the 64-bit words of p, by all of the device together; returns the seconds that reading them took
OP(double, read, (uint64_t * sum, const void *p, size_t bytes))
