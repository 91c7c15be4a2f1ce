// cpu_vec_undef - forgets what cpu_vec.c says of one set of vector instructions, before the next.
#undef TARGET
#undef V
#undef LANES
#undef PER
#undef MOST
#undef ZERO
#undef SET1
#undef LOADF
#undef STORE
#undef FMA
#undef FMA1
#undef ADD
#undef SUM
