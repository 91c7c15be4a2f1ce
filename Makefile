# make: programs in bin/. make demo, make test: install what is missing, build, run. make help lists the rest.
# Sources are found by name pattern; nothing is listed here: NAME_main.c is a program, tests/test_NAME.c a test,
# tests/fuzz_NAME.c a fuzz target, criteria/crit_NAME.c a criterion, every other .c of the folders below belongs to libkit.a.
# What can be set is described by `## NAME: ...` on the line above: a comment after a value would leave blanks in it.
## SAN: 1 for the address and undefined-behaviour sanitizers
SAN  ?= 0
## V: 1 to print the commands
V    ?= 0
Q    := $(if $(filter 1,$(V)),,@)
B    := build/$(if $(filter 1,$(SAN)),san,opt)
PKGS := hdf5 gsl libpcre2-8 jansson libzip libxxhash icu-uc zlib
DEBS := gcc make pkg-config libopenblas-dev libhdf5-dev libgsl-dev libpcre2-dev libjansson-dev libzip-dev libxxhash-dev libicu-dev zlib1g-dev \
        libcmocka-dev gnuplot-nox python3-h5py python3-numpy git
WARN := -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-format-truncation -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
OPTIM := $(if $(filter 1,$(SAN)),-O1 -fsanitize=address -fsanitize=undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer,-O3)
KIT_CFLAGS = -std=c11 -D_GNU_SOURCE $(OPTIM) -g -fopenmp -fno-math-errno $(WARN) $(FOLDERS:%=-I%) -I$(B) \
          $(shell pkg-config --cflags $(PKGS) openblas 2>/dev/null) -MMD -MP
# One CBLAS: OpenBLAS, for GSL too.
LDLIBS  = $(filter-out -lgslcblas,$(shell pkg-config --libs $(PKGS) openblas 2>/dev/null)) -lm -ldl -rdynamic

CRITS := $(sort $(patsubst criteria/crit_%.c,%,$(wildcard criteria/crit_*.c)))
FOLDERS := $(sort $(dir $(foreach d,model criteria data predictor experiments,$(wildcard $d/*.[ch] $d/*/*.[ch] $d/*/*/*.[ch]))))
FOLDERS := $(FOLDERS:%/=%)
MAINS := $(foreach d,$(FOLDERS),$(wildcard $d/*_main.c))
CUDA_C := $(wildcard model/ops/cuda/*.c)
KERNELS := $(wildcard model/ops/cuda/*.cu)
SRCS  := $(filter-out $(MAINS) $(CUDA_C),$(foreach d,$(FOLDERS),$(wildcard $d/*.c)))
OBJS  := $(SRCS:%.c=$(B)/%.o)
PROGS := $(patsubst %_main.c,$(B)/bin/%,$(notdir $(MAINS)))
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/test_*.c))

all: $(PROGS)                                ## the programs; bin/ links to them
	$(Q)ln -sfn $(B)/bin bin

clean:                                       ## remove everything built
	rm -rf build bin

help:                                        ## this list
	@sed -nE 's/^## ([A-Z_]+): /\1\t/p; s/^([a-z_-]+):[^#]*## /\1\t/p' $(filter-out %.d,$(MAKEFILE_LIST)) | expand -t 18

$(B)/crit_list.h: FORCE
	@mkdir -p $(@D); printf 'CRIT(%s)\n' $(CRITS) >$@.new; cmp -s $@ $@.new && rm $@.new || mv $@.new $@
$(B)/criteria/registry.o: $(B)/crit_list.h
$(B)/modeling_pruned.h: experiments/masks/modeling_pruned.py
	@mkdir -p $(@D); sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' $< >$@
$(B)/experiments/masks/prune_main.o: $(B)/modeling_pruned.h
$(B)/version.h: FORCE
	@mkdir -p $(@D); printf '#define KIT_VERSION "%s"\n' "$$(git describe --always --dirty 2>/dev/null || echo unknown)" >$@.new; \
	  cmp -s $@ $@.new && rm $@.new || mv $@.new $@
$(B)/model/base/base.o: $(B)/version.h

define COMPILE
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC    $<")
	$(Q)$(CC) $(KIT_CFLAGS) $(CFLAGS) -c $< -o $@
endef
$(B)/%.o: %.c
	$(COMPILE)
$(B)/libkit.a: $(OBJS)
	$(Q)rm -f $@; ar rcs $@ $^

$(foreach m,$(MAINS),$(eval $(B)/bin/$(patsubst %_main.c,%,$(notdir $m)): $(m:%.c=$(B)/%.o)))
$(TESTS): $(B)/%: $(B)/%.o
$(PROGS): $(B)/libkit.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LINK  $(@F)")
	$(Q)$(CC) $(KIT_CFLAGS) $(CFLAGS) $(filter %.o,$^) $(B)/libkit.a $(LDFLAGS) $(LDLIBS) -o $@
$(TESTS): $(B)/libkit.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LINK  $(@F)")
	$(Q)$(CC) $(KIT_CFLAGS) $(CFLAGS) $(filter %.o,$^) $(B)/libkit.a $(LDFLAGS) $(LDLIBS) -lcmocka -o $@

# The GPU's table of operations is a library of its own, which programs load for --device cuda (model/ops/device.c): model/ops/cuda/. shim/libkit_cuda.so is the same sources compiled as host C++ over a CUDA runtime that runs on the CPU (tests/cuda), so that
# the tests execute every kernel; it needs CUDA's headers, no GPU and no nvcc.
CUDA_HOME ?= /usr/local/cuda
NVCC      ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard $(CUDA_HOME)/bin/nvcc))
## CUDA: 0 for no GPU library; unless given, nvcc builds one where it is found
CUDA      ?= $(if $(and $(NVCC),$(CUDA_INC)),$(if $(filter 1,$(SAN)),0,1),0)
ARCHS     := -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90,code=sm_90
CUDA_INC  := $(firstword $(dir $(wildcard $(CUDA_HOME)/include/cuda_runtime_api.h /usr/include/cuda_runtime_api.h)))
SHIM      := $(if $(CUDA_INC),$(B)/shim/libkit_cuda.so)
SHIM_TEST := $(if $(SHIM),$(B)/tests/test_cuda_runtime)
SHIM_SRCS := $(wildcard tests/cuda/*.cpp)
SHIM_CXXFLAGS = -std=c++17 -fno-strict-aliasing -fPIC -fvisibility=hidden -g -Wall -Wextra -Werror -Wno-unknown-pragmas $(FOLDERS:%=-I%) -Itests/cuda -isystem $(CUDA_INC) \
          $(if $(filter 1,$(SAN)),$(filter-out -O3,$(OPTIM)),-O2) -MMD -MP

ifeq ($(CUDA),1)
all: $(B)/libkit_cuda.so
endif
$(B)/cuda/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(if $(Q),@echo "  NVCC  $<")
	$(Q)$(NVCC) -std=c++17 -O3 $(ARCHS) -Xptxas -v,--warn-on-spills -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra $(FOLDERS:%=-I%) -MMD -MF $(@:.o=.d) -c $< -o $@ >$(@:.o=.log) 2>&1 || { cat $(@:.o=.log); exit 1; }
	$(Q)! grep -E 'warning|[1-9][0-9]* bytes spill' $(@:.o=.log) || { rm -f $@; exit 1; }
$(B)/cuda/%.o $(B)/shim/%.o: KIT_CFLAGS += -fPIC -fvisibility=hidden -isystem $(CUDA_INC)
$(B)/cuda/%.o: %.c  # not one rule with the next: make takes a pattern of two targets as making both at once
	$(COMPILE)
$(B)/shim/%.o: %.c
	$(COMPILE)
$(B)/libkit_cuda.so: $(CUDA_C:%.c=$(B)/cuda/%.o) $(KERNELS:%=$(B)/cuda/%.o)
	$(if $(Q),@echo "  LINK  $(@F)")
	$(Q)$(NVCC) -shared -cudart shared $^ -lcublas -lcurand -Xlinker -rpath,$(CUDA_HOME)/lib64 -o $@
$(B)/shim/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX   $<")
	$(Q)$(CXX) $(SHIM_CXXFLAGS) -x c++ -c $< -o $@
$(B)/shim/%.o: %.cpp
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX   $<")
	$(Q)$(CXX) $(SHIM_CXXFLAGS) -c $< -o $@
$(B)/shim/libkit_cuda.so: $(CUDA_C:%.c=$(B)/shim/%.o) $(KERNELS:%=$(B)/shim/%.o) $(SHIM_SRCS:%.cpp=$(B)/shim/%.o)
	$(if $(Q),@echo "  LINK  shim/$(@F)")
	$(Q)$(CXX) -shared $(OPTIM) $^ $(LDFLAGS) $(shell pkg-config --libs openblas) -lpthread -ldl -o $@

$(SHIM_TEST): $(B)/shim/tests/cuda/runtime_test.cu.o $(SHIM_SRCS:%.cpp=$(B)/shim/%.o)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LINK  $(@F)")
	$(Q)$(CXX) $(OPTIM) $^ $(LDFLAGS) $(shell pkg-config --libs openblas) -lpthread -ldl -o $@

# Registers, shared memory and roofline times of the kernels, at a shape: a table made from ptxas's output and formulas.
## SHAPE: shape of the model in cuda-report's table (here OPT-13b)
SHAPE ?= E=5120 H=40 F=20480 V=50272 T=512 wbytes=2 live=0.5
cuda-report: $(KERNELS:%=$(B)/cuda/%.o)      ## registers, shared memory, bytes, FLOPs and roofline times of the kernels (needs nvcc)
	@awk $(SHAPE:%=-v %) -f model/ops/cuda/cuda_report.awk $(KERNELS:%=$(B)/cuda/%.log)
cuda-time:                                   ## what a token should take on a GPU, by a model of time: nothing is measured
	@awk -f model/ops/cuda/cuda_time.awk
# The kernels as nvcc compiled them, their PTX executed on the CPU by a translator that is no part of this project, with every access checked, in every test in C
# that has a GPU's side and in tests of the programs.
## PTXRUN: translator of PTX for ptxrun
PTXRUN ?= $(firstword $(wildcard ../shared/cuda-on-cpu/ptxrun/run) $(shell command -v ptxrun 2>/dev/null))
PTX_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(shell grep -l '"shim.h"' tests/test_*.c)) $(patsubst %,tests/test_%.sh,cuda_chain cuda_parts activations bench prune)
ptxrun: $(if $(NVCC),$(if $(PTXRUN),all $(B)/libkit_cuda.so $(filter $(B)/%,$(PTX_TESTS)))) ## the tests of CUDA and of the programs on it, on the PTX that nvcc emits (needs nvcc and ptxrun)
	@if [ -z "$(NVCC)" ] || [ -z "$(PTXRUN)" ]; then echo "SKIP ptxrun: $(if $(NVCC),PTXRUN=PROGRAM names no translator of PTX,nvcc is not there)"; \
	else BIN=$(B)/bin tests/cuda/ptxrun.sh $(PTXRUN) $(CURDIR)/$(B)/ptxrun $(CURDIR)/$(B)/libkit_cuda.so $(PTX_TESTS); fi

# Every tests/test_*.c and tests/test_*.sh: exit 0 passed, 77 skipped (it says why), anything else failed. The programs go by
# relative path through BIN, what a test prints stays in build/opt/tests/NAME.log.
# LONG begin first. What a launcher has set (mpirun, a job of Slurm) is taken away.
SCRIPTS := $(wildcard tests/test_*.sh)
LAUNCHED := OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_LOCAL_RANK PMI_RANK PMI_SIZE MPI_LOCALRANKID SLURM_PROCID SLURM_NTASKS SLURM_LOCALID
## JOBS: tests of check and test that run at the same time
JOBS ?= $(shell nproc)
LONG := cuda_chain.sh cuda_parts.sh predictor.sh score.sh cuda_decode cuda_faults.sh claims.sh ranks.sh paper.sh
LONG := $(LONG:%=\%/test_%)
check: all $(TESTS) $(SHIM) $(SHIM_TEST)                  ## run the tests (nothing is installed)
	@unset $(LAUNCHED); BIN=$(B)/bin tests/suite.sh $(B)/tests $(JOBS) \
	  $(foreach l,$(LONG),$(filter $l,$(SCRIPTS) $(TESTS))) $(filter-out $(LONG),$(SCRIPTS) $(TESTS) $(SHIM_TEST))
# ORACLE: the families whose scores are compared, or kinds of them (llama-qwen2); each has a log of its own, to which every seed adds its lines.
ORACLE := opt llama
## SEEDS: of oracle's random checkpoints, such as "2 3"
SEEDS ?= 1
oracle: all                                  ## compare the scores with ../shared/oracle -> results/oracle (ORACLE=opt, llama or llama-qwen2 alone; SEEDS)
	@mkdir -p results/oracle
	@set -e; for family in $(ORACLE); do for seed in $(SEEDS); do log=results/oracle/$$family.log; \
	  { printf '# command: make oracle ORACLE=%s SEEDS=%s\n# code: %s\n# date: %s\n# machine: %s\n' $$family $$seed "$$(git describe --always --dirty)" \
	    "$$(date -u +%FT%TZ)" "$$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $$(nproc) threads"; \
	    BIN=$(B)/bin PYTHON=$(PYTHON) tests/test_oracle.sh $$family $$seed; } | tee $$log.tmp; \
	  tail -n 1 $$log.tmp | grep -q '^[1-9][0-9]* comparisons, none far$$'; cat $$log.tmp >>$$log; rm $$log.tmp; done; done
test: install                                ## install what is missing, build, run the tests
	@$(MAKE) --no-print-directory check
install:                                     ## install the Debian packages that are missing (as root, or with sudo)
	@tests/install.sh $(DEBS)

# Fuzz targets are built with clang, into their own tree, without the arithmetic (parsers do not need it, and clang 14 lacks some of
# gcc's names of processor features).
## RUNS: inputs per target of fuzz
RUNS ?= 100000
## SEED: seed of the generator of fuzz
SEED ?= 1
FUZZ := $(patsubst tests/%.c,%,$(wildcard tests/fuzz_*.c))
FUZZ_CFLAGS = $(filter-out -O3 -fopenmp -Werror -W%,$(KIT_CFLAGS)) -w -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
              -idirafter $(dir $(shell $(CC) -print-file-name=include/omp.h))
build/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -c $< -o $@
build/fuzz/libkit.a: $(patsubst %.c,build/fuzz/%.o,$(filter-out model/ops/cpu/%,$(SRCS)))
	$(Q)rm -f $@; ar rcs $@ $^
$(FUZZ:%=build/fuzz/%): build/fuzz/%: build/fuzz/tests/%.o build/fuzz/libkit.a
	$(Q)clang $(FUZZ_CFLAGS) -fsanitize=fuzzer $< build/fuzz/libkit.a $(LDLIBS) -lgomp -o $@
fuzz: $(FUZZ:%=build/fuzz/%)                 ## every parser under clang's fuzzer and sanitizers (needs clang)
	@tests/fuzz.sh build/fuzz $(RUNS) $(SEED)
build/fuzz/model/base/base.o build/fuzz/criteria/registry.o: $(B)/version.h $(B)/crit_list.h

include experiments/runs.mk
.PHONY: oracle fuzz check test install all clean help ptxrun cuda-report cuda-time FORCE
.SECONDARY:
-include $(shell find $(B) build/fuzz -name '*.d' 2>/dev/null)
