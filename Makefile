# make: programs in bin/. make demo, make test: install what is missing, build, run. make help lists the rest.
# Sources are found by name pattern; nothing is listed here: */NAME_main.c is a program, tests/test_NAME.c a test,
# tests/fuzz_NAME.c a fuzz target, criteria/crit_NAME.c a criterion, every other */*.c belongs to libkit.a.
# What can be set is described by `## NAME: ...` on the line above: a comment after a value would leave blanks in it.
## SAN: 1 for the address and undefined-behaviour sanitizers
SAN  ?= 0
## V: 1 to print the commands
V    ?= 0
Q    := $(if $(filter 1,$(V)),,@)
B    := build/$(if $(filter 1,$(SAN)),san,opt)
PKGS := hdf5 gsl libpcre2-8 jansson libzip libxxhash
DEBS := gcc make pkg-config libopenblas-dev libhdf5-dev libgsl-dev libpcre2-dev libjansson-dev libzip-dev libxxhash-dev \
        libcmocka-dev gnuplot-nox python3-h5py python3-numpy git
WARN := -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-format-truncation -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
OPTIM := $(if $(filter 1,$(SAN)),-O1 -fsanitize=address -fsanitize=undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer,-O3)
KIT_CFLAGS = -std=c11 -D_GNU_SOURCE $(OPTIM) -g -fopenmp -fno-math-errno $(WARN) -Imodel -Icriteria -Idata -Ipredictor -Iexperiments -I$(B) \
          $(shell pkg-config --cflags $(PKGS) openblas 2>/dev/null) -MMD -MP
# One CBLAS: OpenBLAS, for GSL too.
LDLIBS  = $(filter-out -lgslcblas,$(shell pkg-config --libs $(PKGS) openblas 2>/dev/null)) -lm -ldl -rdynamic

CRITS := $(sort $(patsubst criteria/crit_%.c,%,$(wildcard criteria/crit_*.c)))
MAINS := $(wildcard */*_main.c)
CUDA_C := $(wildcard model/cuda_*.c)
KERNELS := $(wildcard model/cuda_*.cu)
SRCS  := $(filter-out $(MAINS) tests/% $(CUDA_C),$(wildcard */*.c))
OBJS  := $(SRCS:%.c=$(B)/%.o)
PROGS := $(patsubst %_main.c,$(B)/bin/%,$(notdir $(MAINS)))
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/test_*.c))

all: $(PROGS)                                ## the programs; bin/ links to them
	$(Q)ln -sfn $(B)/bin bin

clean:                                       ## remove everything built
	rm -rf build bin

help:                                        ## this list
	@sed -nE 's/^## ([A-Z_]+): /\1\t/p; s/^([a-z_-]+):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

$(B)/crit_list.h: FORCE
	@mkdir -p $(@D); printf 'CRIT(%s)\n' $(CRITS) >$@.new; cmp -s $@ $@.new && rm $@.new || mv $@.new $@
$(B)/criteria/registry.o: $(B)/crit_list.h
$(B)/version.h: FORCE
	@mkdir -p $(@D); printf '#define KIT_VERSION "%s"\n' "$$(git describe --always --dirty 2>/dev/null || echo unknown)" >$@.new; \
	  cmp -s $@ $@.new && rm $@.new || mv $@.new $@
$(B)/model/base.o: $(B)/version.h

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

# The GPU's table of operations is a library of its own, which programs load for --device cuda (model/device.c): model/cuda_*.c and the
# kernels, model/cuda_*.cu. shim/libkit_cuda.so is the same sources compiled as host C++ over a CUDA runtime that runs on the CPU (tests/cuda), so that
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
SHIM_CXXFLAGS = -std=c++17 -fno-strict-aliasing -fPIC -fvisibility=hidden -g -Wall -Wextra -Werror -Wno-unknown-pragmas -Imodel -Itests/cuda -isystem $(CUDA_INC) \
          $(if $(filter 1,$(SAN)),$(filter-out -O3,$(OPTIM)),-O2) -MMD -MP

ifeq ($(CUDA),1)
all: $(B)/libkit_cuda.so
endif
$(B)/cuda/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(if $(Q),@echo "  NVCC  $<")
	$(Q)$(NVCC) -std=c++17 -O3 $(ARCHS) -Xptxas -v,--warn-on-spills -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra -MMD -MF $(@:.o=.d) -c $< -o $@ >$(@:.o=.log) 2>&1 || { cat $(@:.o=.log); exit 1; }
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
	@awk $(SHAPE:%=-v %) -f model/cuda_report.awk $(KERNELS:%=$(B)/cuda/%.log)
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
LONG := cuda_chain.sh cuda_parts.sh predictor.sh score.sh cuda_decode cuda_faults.sh claims.sh ranks.sh
LONG := $(LONG:%=\%/test_%)
check: all $(TESTS) $(SHIM) $(SHIM_TEST)                  ## run the tests (nothing is installed)
	@unset $(LAUNCHED); BIN=$(B)/bin tests/suite.sh $(B)/tests $(JOBS) \
	  $(foreach l,$(LONG),$(filter $l,$(SCRIPTS) $(TESTS))) $(filter-out $(LONG),$(SCRIPTS) $(TESTS) $(SHIM_TEST))
# ORACLE names what tests/test_oracle.sh compares: full, or nothing for one small case.
ORACLE := full
oracle: all                                  ## compare the scores with ../shared/oracle -> results/oracle (long)
	@mkdir -p results/oracle
	@{ printf '# command: make oracle\n# code: %s\n# date: %s\n# machine: %s\n' "$$(git describe --always --dirty)" "$$(date -u +%FT%TZ)" \
	   "$$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $$(nproc) threads"; \
	   BIN=$(B)/bin PYTHON=$(PYTHON) tests/test_oracle.sh $(ORACLE); } | tee results/oracle/oracle.log.tmp
	@tail -n 1 results/oracle/oracle.log.tmp | grep -q '^[1-9][0-9]* comparisons, none far$$'
	@mv results/oracle/oracle.log.tmp results/oracle/oracle.log
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
build/fuzz/libkit.a: $(patsubst %.c,build/fuzz/%.o,$(filter-out model/cpu%,$(SRCS)))
	$(Q)rm -f $@; ar rcs $@ $^
$(FUZZ:%=build/fuzz/%): build/fuzz/%: build/fuzz/tests/%.o build/fuzz/libkit.a
	$(Q)clang $(FUZZ_CFLAGS) -fsanitize=fuzzer $< build/fuzz/libkit.a $(LDLIBS) -lgomp -o $@
fuzz: $(FUZZ:%=build/fuzz/%)                 ## every parser under clang's fuzzer and sanitizers (needs clang)
	@tests/fuzz.sh build/fuzz $(RUNS) $(SEED)
build/fuzz/model/base.o build/fuzz/criteria/registry.o: $(B)/version.h $(B)/crit_list.h

# The main job on the default model. Everything is resumable: a second `make demo` computes nothing anew.
MODEL := model/default
WORLD := data/world
demo: install                                ## install, build, and run the main job on the default model -> results/demo
	@$(MAKE) --no-print-directory run-demo
run-demo: all
	@mkdir -p results/demo
	bin/score --model $(MODEL) --data $(WORLD) --tasks all --shots 2 --examples 30 --criteria all --out results/demo/scores.h5
	bin/aggregate --store results/demo/scores.h5 --out results/demo/aggregates.h5 --csv results/demo >results/demo/aggregate.txt
	bin/sweep --model $(MODEL) --data $(WORLD) --tasks all --wikitext $(WORLD)/wikitext/held-out.raw --limit 20 --mask none,random,static \
	  --scores results/demo/aggregates.h5 --criterion plainact,snip,l2_norm --units both --sparsity 0,20,40,60 --token-perplexity none --out results/demo/sweep.csv >results/demo/sweep.txt
	@echo; echo "predictors and contextual masks -> results/demo/contextual:"
	@experiments/contextual.sh small results/demo/scores.h5 results/demo/aggregates.h5 results/demo/contextual $(MODEL) $(WORLD) >results/demo/contextual.txt
	@$(MAKE) --no-print-directory plots PLOT_IN=results/demo FIGURES="$(MAIN_FIGURES)"
	@$(MAKE) --no-print-directory plots PLOT_IN=results/demo/contextual FIGURES="plots/contextual_scopes.gp plots/contextual_designs.gp"
	@echo; echo "mean accuracy of the seven tasks, heads and neurons pruned (results/demo/plots has the figures):"
	@bin/tables --table demo
	@echo; echo "masks that act from the end of the context on: static ones and contextual ones by two designs of predictors, accuracy and word perplexity:"
	@cat results/demo/contextual.txt
sweep-full: all                              ## every criterion and sparsity on the default model -> results/full (prints its time first)
	@mkdir -p results/full
	@echo "the time it takes, scoring and the sweep (its points are counted with scores of a few examples):"
	@bin/score $(SCORE_FULL) --out results/full/scores.h5 --estimate | grep -E '^estimate|complete'
	@test -e results/full/points.h5 || { bin/score --model $(MODEL) --data $(WORLD) --tasks copa --examples 30 --criteria all --out results/full/points.h5 && \
	  bin/aggregate --store results/full/points.h5 --out results/full/points.h5; } >/dev/null
	@bin/sweep $(SWEEP_FULL) --scores results/full/points.h5 --out results/full/sweep.csv --estimate 2>&1 | tail -n 1
	bin/score $(SCORE_FULL) --out results/full/scores.h5
	bin/aggregate --store results/full/scores.h5 --out results/full/aggregates.h5 --csv results/full >results/full/aggregate.txt
	bin/sweep $(SWEEP_FULL) --scores results/full/aggregates.h5 --out results/full/sweep.csv >results/full/sweep.txt
	@$(MAKE) --no-print-directory plots PLOT_IN=results/full FIGURES="$(MAIN_FIGURES)"
SCORE_FULL = --model $(MODEL) --data $(WORLD) --tasks all --examples 200 --criteria all
SWEEP_FULL = --model $(MODEL) --data $(WORLD) --tasks all --wikitext $(WORLD)/wikitext/held-out.raw --mask random,static --scope local,global --criterion all
contextual-full: all                         ## predictors and contextual masks of the default model -> results/contextual (447 points; prints its time first)
	@mkdir -p results/full
	bin/score $(SCORE_FULL) --out results/full/scores.h5
	bin/aggregate --store results/full/scores.h5 --out results/full/aggregates.h5 --csv results/full >results/full/aggregate.txt
	experiments/contextual.sh full results/full/scores.h5 results/full/aggregates.h5 results/contextual $(MODEL) $(WORLD)
	bin/bench --model $(MODEL) --mask none,static,contextual --scores results/full/aggregates.h5 --criterion plainact --scope global --sparsity 30,50,70 --prompt 64 --tokens 64 --rounds 9 \
	  --predictor results/contextual/work/shadow-0.h5,results/contextual/work/ahead-0.h5 --out results/contextual/work/bench.csv
	@cp results/contextual/work/bench.csv results/contextual
	@$(MAKE) --no-print-directory plots PLOT_IN=results/contextual FIGURES="$(CONTEXTUAL_FIGURES)"
contextual-ranks: all                        ## the same over ranks of predictors, and their time -> results/contextual (after contextual-full; prints its time first)
	experiments/ranks.sh results/full/scores.h5 results/full/aggregates.h5 results/contextual $(MODEL) $(WORLD)
	bin/bench --model $(MODEL) --mask static,contextual --scores results/full/aggregates.h5 --criterion plainact --sparsity 50 --refresh 0,1 --prompt 64 --tokens 64 --rounds 5 \
	  --predictor "$$(ls -v results/contextual/work/rank-*-0.h5 | paste -sd ,)" --out results/contextual/work/ranks_bench.csv
	@cp results/contextual/work/ranks_bench.csv results/contextual
	@$(MAKE) --no-print-directory plots PLOT_IN=results/contextual FIGURES=plots/contextual_rank.gp
remake: all                                  ## make the default model and its data anew from the seed, in build/remake (about an hour)
	bin/world --out build/remake/world --seed 1
	bin/pretrain --text build/remake/world/text --out build/remake/model --tokens 6000000 --answer-weight 10

dense: all                                   ## accuracy of the default model without a mask -> results/dense
	@mkdir -p results/dense
	bin/sweep --model $(MODEL) --data $(WORLD) --tasks all --mask none --out results/dense/default.csv

# Speed of scoring beside PyTorch, one example and four examples at a time; and of decoding. The peers need torch and transformers, and ctranslate2.
## PYTHON: a Python with torch; also numpy, h5py (oracle), transformers (bench, bench-decode), ctranslate2 (bench-decode)
PYTHON ?= python3
bench: all                                   ## tokens/s of scoring beside PyTorch, on OPT-125m's shape -> results/scoring
	@mkdir -p results/scoring
	bin/bench_score --peer $(PYTHON) --out results/scoring/bench_score.csv
	bin/bench_score --peer $(PYTHON) --batch 4 --batches 1 --out results/scoring/bench_score.csv
bench-train: all                             ## examples/s of training predictors beside PyTorch -> results/training
	@mkdir -p results/training
	bin/bench_train --peer $(PYTHON) --out results/training/bench_train.csv
	bin/bench_train --peer $(PYTHON) --shape 6x8x256x1024x2000x512 --out results/training/bench_train.csv
## TIMES: folder of bench-decode and bench-sweep: the CSV file and the figures
TIMES ?= results/bench
bench-decode: all                            ## time of a token beside PyTorch and CTranslate2, dense and under masks, on OPT-125m's shape
	@mkdir -p $(TIMES)
	bin/bench --shape opt-125m --weights fp32,fp16 --mask none,static,contextual --refresh 0,16,1 --peer $(PYTHON) --out $(TIMES)/bench.csv
bench-sweep: all                             ## time over sparsity, length and size -> TIMES, with figures
	@mkdir -p $(TIMES)
	bin/bench --shape opt-125m --mask none,static,contextual --refresh 1 --sparsity 0,10,20,30,40,50,60,70,80,90 --tokens 32 --rounds 6 --out $(TIMES)/bench.csv
	bin/bench --shape opt-125m --mask none,static,contextual --refresh 1 --prompt 128 --tokens 32,64,128,256 --rounds 4 --out $(TIMES)/bench.csv
	bin/bench --shape opt-125m,opt-350m,opt-1.3b --mask none,static,contextual --refresh 1 --tokens 32 --out $(TIMES)/bench.csv
	@$(MAKE) --no-print-directory plots PLOT_IN=$(TIMES)

# Tables and numbers of the documents follow from the CSV files of results/, as results/tables.json and results/numbers.csv say.
DOCUMENTS := README.md,results/README.md
tables: all                                  ## write the tables of the documents from the CSV files of results/
	bin/tables --document $(DOCUMENTS)
	bin/tables --numbers results/numbers.csv --check
tables-check: all                            ## do the tables and numbers of the documents follow from the CSV files of results/?
	bin/tables --document $(DOCUMENTS) --numbers results/numbers.csv --check

# Figures of a folder of results; plots/README.md lists what each reads.
## PLOT_IN: folder of the CSV files that plots reads
PLOT_IN  ?= results/demo
## PLOT_OUT: folder of the figures that plots draws
PLOT_OUT ?= $(PLOT_IN)/plots
FIGURES  := $(filter-out plots/common.gp plots/criteria.gp plots/contextual.gp plots/times.gp,$(wildcard plots/*.gp))
CONTEXTUAL_FIGURES := $(wildcard plots/contextual_*.gp) plots/predictability.gp plots/quality_time.gp
MAIN_FIGURES := $(filter-out $(CONTEXTUAL_FIGURES) plots/time_%,$(FIGURES))
plots:                                       ## draw the figures of PLOT_IN into PLOT_OUT
	$(Q)for f in $(FIGURES); do LC_ALL=C.UTF-8 gnuplot -e "src='$(PLOT_IN)'; dst='$(PLOT_OUT)'" $$f || exit 1; done

.PHONY: dense bench bench-train bench-decode bench-sweep oracle demo run-demo sweep-full contextual-full contextual-ranks remake plots tables tables-check fuzz check test install all clean help FORCE
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
