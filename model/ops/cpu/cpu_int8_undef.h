// cpu_int8_undef - forgets what cpu_int8.c says of one set of vector instructions, before the next.
#undef TARGET
#undef V16
#undef ZERO16
#undef LOAD16
#undef MUL16
#undef FMA16
#undef FLOAT16
#undef SUM16
#undef SUM16_4
#undef UNROLL
