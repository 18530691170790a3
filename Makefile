# d2c: the extension's module (PGXS), libd2c, and the program d2c.
#
#   make            build everything            make demo      the main job on real images
#   make install    install into PG_CONFIG's    make test      packages, build, install, every test
#   make bench      speed beside peers          make deps      Debian packages only
#   make gpu-check  every check on a GPU        make bundle    what that needs, to carry to a machine with one
#
# PG_CONFIG picks the PostgreSQL (15 to 18); BUILD the folder for objects; SANITIZE=1 builds libd2c, the program and
# the unit tests with ASan and UBSan (use a BUILD of its own).

EXTENSION = d2c
EXTVERSION = 0.2.0
MODULE_big = d2c
BUILD ?= build
PG_CONFIG ?= pg_config

# ---- the module: only PostgreSQL and libc -------------------------------------------------------------------------

# src/select is in libd2c as well: both sides pick alike.
OBJS = $(patsubst %.c,%.o,$(wildcard src/pg/*.c src/select/*.c))
src/select/%.o: PG_CFLAGS += -ffp-contract=off
# Released scripts never change, so they are kept packed, out of the way of every search; with the update scripts they
# are what an older database has been through.
RELEASED = $(patsubst %.gz,%,$(wildcard sql/released/d2c--*.sql.gz))
DATA_built = sql/d2c--$(EXTVERSION).sql sql/d2c--0.1.0--0.2.0.sql $(RELEASED)
HEADERS = src/pg/tensor.h
PG_CPPFLAGS = -Isrc -I$(BUILD)/include
# PostgreSQL 15 leaves PGDLLEXPORT empty, and does not put it before functions: the sources do (PGDLLEXPORT
# PG_FUNCTION_INFO_V1), or -fvisibility=hidden would make a module without functions.
PG_CPPFLAGS += -DPGDLLEXPORT='__attribute__((visibility("default")))'
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
	-fvisibility=hidden -MMD -MP
ifneq ($(findstring clang,$(CC)),)
# A PostgreSQL that gcc built hands on gcc's own flags and attributes.
PG_CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes
endif
# The tests need a server of their own with the test models: test/run makes it.
NO_INSTALLCHECK = 1
EXTRA_CLEAN = $(DATA_built) $(wildcard src/pg/*.d src/select/*.d)

# d2c's functions are long-running calls: nothing is won by inlining their bitcode.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
endif

# ---- libd2c and the program ---------------------------------------------------------------------------------------

LIB_FOLDERS = base image eval ops ranks nn select text engine train
LIB_SOURCES = $(foreach folder,$(LIB_FOLDERS),$(wildcard src/$(folder)/*.c))
CLI_SOURCES = $(wildcard src/cli/*.c)
LIB_OBJECTS = $(LIB_SOURCES:src/%.c=$(BUILD)/%.o)
CLI_OBJECTS = $(CLI_SOURCES:src/%.c=$(BUILD)/%.o)
UNIT_SOURCES = $(wildcard test/unit/test_*.c)
UNIT_TESTS = $(UNIT_SOURCES:test/unit/%.c=$(BUILD)/unit/%)
BENCH_PROGRAMS = $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))

PACKAGES = zlib libpng libjpeg libwebp libcjson libutf8proc libpq libcrypto
D2C_CPPFLAGS = -Isrc -I$(BUILD)/include $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
D2C_CFLAGS ?= -O2 -g
D2C_FLAGS = -std=gnu11 $(D2C_CFLAGS) -fPIC -fopenmp -fvisibility=hidden -ffp-contract=off \
	-Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wshadow -Wno-unknown-warning-option -Wno-format-truncation
D2C_LIBS = $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -ldnnl -llapacke -lpthread -lm
ifdef SANITIZE
D2C_FLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
ifdef FUZZ
D2C_FLAGS += -fsanitize=fuzzer-no-link
endif

D2C_PROGRAM = $(BUILD)/d2c
LIBD2C = $(BUILD)/libd2c.a

all: $(D2C_PROGRAM)

.PHONY: bench-programs sanitized sanitized-tests fuzz fuzz-targets program lib unit check-unit installcheck check-assertions deps demo test bench format check-format clean-build
lib: $(LIBD2C)
program: $(D2C_PROGRAM)
unit: $(UNIT_TESTS)
# They are built with the tests, so that they keep building.
bench-programs: $(BENCH_PROGRAMS)

# Both ends of the engine's socket must be of one build: the id is a digest of every source.
BUILD_ID_SOURCES = $(sort $(wildcard src/*/*.c src/*/*.h kernels/*))
$(BUILD)/include/build_id.h: $(BUILD_ID_SOURCES)
	@mkdir -p $(@D)
	@id=$$(cat $^ | sha256sum | cut -c1-16); printf '#define D2C_BUILD_ID "$(EXTVERSION)-%s"\n' $$id >$@.new
	@cmp -s $@ $@.new && rm $@.new && touch $@ || mv $@.new $@

$(OBJS) $(LIB_OBJECTS) $(CLI_OBJECTS): | $(BUILD)/include/build_id.h
$(BUILD)/cli/engine.o $(BUILD)/cli/main.o src/pg/engine_client.o: $(BUILD)/include/build_id.h

$(BUILD)/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(D2C_CPPFLAGS) $(D2C_FLAGS) -MMD -MP -c $< -o $@

# The CPU backend's loops are compiled once for each instruction set, and picked at run time.
KERNEL_FLAGS = -O3 -fno-math-errno -fno-trapping-math
$(BUILD)/ops/cpu_kernels_%.o: D2C_FLAGS += $(KERNEL_FLAGS)
ifeq ($(shell uname -m),x86_64)
$(BUILD)/ops/cpu_kernels_avx2.o: D2C_FLAGS += -mavx2 -mfma
$(BUILD)/ops/cpu_kernels_avx512.o: D2C_FLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
endif

$(LIBD2C): $(LIB_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

$(D2C_PROGRAM): $(CLI_OBJECTS) $(LIBD2C)
	$(CC) $(D2C_FLAGS) $^ $(D2C_LIBS) -o $@

$(BUILD)/unit/%: test/unit/%.c $(LIBD2C)
	@mkdir -p $(@D)
	$(CC) $(D2C_CPPFLAGS) $(D2C_FLAGS) -Itest/unit -DGOLDEN='"$(CURDIR)/test/golden"' -MMD -MP $< $(LIBD2C) $(D2C_LIBS) -o $@

$(BUILD)/bench/%: bench/%.c $(LIBD2C)
	@mkdir -p $(@D)
	$(CC) $(D2C_CPPFLAGS) $(D2C_FLAGS) -MMD -MP $< $(LIBD2C) $(D2C_LIBS) -o $@

# ---- the CUDA backend: a library opened at run time, left out where there is no CUDA Toolkit -------------------------

NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_C = $(wildcard kernels/*.c)
CUDA_CU = $(wildcard kernels/*.cu)
# What the library shares with libd2c; it exports its constructor alone.
CUDA_BASE = $(BUILD)/base/status.o $(BUILD)/ops/tensor.o

ifneq ($(NVCC),)
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_LIBRARY = $(BUILD)/libd2c_cuda.so
# Machine code for A100, H100 and, by toolkits from 12.8 on, B200, and PTX that the driver compiles for what comes later.
ifndef CUDA_ARCHITECTURES
CUDA_ARCHITECTURES := 80 90a $(if $(findstring sm_100,$(shell $(NVCC) --list-gpu-code 2>/dev/null)),100)
endif
CUDA_TARGETS = $(foreach a,$(CUDA_ARCHITECTURES),-gencode arch=compute_$(a),code=sm_$(a)) \
	-gencode arch=compute_80,code=compute_80
# A kernel that spills registers to memory does not build.
CUDA_FLAGS = -std=c++17 -O3 --threads 2 -Xfatbin=-compress-all -Werror all-warnings -Xptxas -warn-spills,-Werror \
	-Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Werror $(CUDA_TARGETS)
CUDA_OBJECTS = $(CUDA_C:kernels/%.c=$(BUILD)/cuda/%.o) $(CUDA_CU:kernels/%.cu=$(BUILD)/cuda/%.o)

$(BUILD)/cuda/%.o: kernels/%.c
	@mkdir -p $(@D)
	$(CC) $(D2C_CPPFLAGS) -isystem $(CUDA_HOME)/include $(D2C_FLAGS) -MMD -MP -c $< -o $@
$(BUILD)/cuda/%.o: kernels/%.cu
	@mkdir -p $(@D)
	$(NVCC) -Isrc $(CUDA_FLAGS) -MMD -MP -c $< -o $@
# The same bits as the processor's: no product is fused with a sum unless the source says so.
$(BUILD)/cuda/random.o: CUDA_FLAGS += -fmad=false

$(CUDA_LIBRARY): $(CUDA_OBJECTS) $(CUDA_BASE)
	$(NVCC) -shared -cudart static $^ -lcublasLt -Xlinker -rpath,$(CUDA_HOME)/lib64 -Xlinker --exclude-libs,ALL -o $@
all: $(CUDA_LIBRARY)
endif

# ---- several processes: a library opened where mpirun started them, left out where there is no MPI ----------------------

MPICC ?= $(shell command -v mpicc 2>/dev/null)
ifneq ($(MPICC),)
MPI_LIBRARY = $(BUILD)/libd2c_mpi.so
MPI_COMPILE = OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) $(D2C_CPPFLAGS) $(D2C_FLAGS)
MPI_OBJECTS = $(BUILD)/mpi/mpi.o $(BUILD)/base/status.o
$(BUILD)/mpi/mpi.o: src/mpi/mpi.c
	@mkdir -p $(@D)
	$(MPI_COMPILE) -MMD -MP -c $< -o $@
$(BUILD)/libd2c_mpi.so $(BUILD)/unit/libd2c_mpi.so: $(MPI_OBJECTS)
	@mkdir -p $(@D)
	$(MPI_COMPILE) -shared $^ -o $@
all: $(MPI_LIBRARY)
unit: $(BUILD)/unit/libd2c_mpi.so
endif

# The same sources against an emulator of the run-time library and of cuBLASLt, for the unit tests: kernels run on the
# host, where the sanitizers see them (test/emu/README).
EMU_SOURCES = $(wildcard test/emu/*.c test/emu/*.cpp)
EMU_OBJECTS = $(CUDA_C:kernels/%.c=$(BUILD)/emu/%.o) $(CUDA_CU:kernels/%.cu=$(BUILD)/emu/%.o) \
	$(patsubst test/emu/%,$(BUILD)/emu/%.o,$(EMU_SOURCES))
EMU_CXXFLAGS = $(filter-out -std=% -Wstrict-prototypes -Wmissing-prototypes -Wno-format-truncation,$(D2C_FLAGS)) -std=gnu++17 -Wno-unknown-pragmas
ifneq ($(findstring clang,$(CC)),)
# clang links the checks that C++ alone has to C++ programs only, and the test programs are C.
CXX = $(subst clang,clang++,$(CC))
EMU_CXXFLAGS += -fno-sanitize=vptr,function
endif
$(BUILD)/emu/%.o: kernels/%.c
	@mkdir -p $(@D)
	$(CC) -Itest/emu $(D2C_CPPFLAGS) $(D2C_FLAGS) -MMD -MP -c $< -o $@
$(BUILD)/emu/%.o: kernels/%.cu
	@mkdir -p $(@D)
	$(CXX) -x c++ -Itest/emu $(D2C_CPPFLAGS) $(EMU_CXXFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/emu/%.c.o: test/emu/%.c
	@mkdir -p $(@D)
	$(CC) -Itest/emu $(D2C_CPPFLAGS) $(D2C_FLAGS) -MMD -MP -c $< -o $@
$(BUILD)/emu/%.cpp.o: test/emu/%.cpp
	@mkdir -p $(@D)
	$(CXX) -Itest/emu $(D2C_CPPFLAGS) $(EMU_CXXFLAGS) -MMD -MP -c $< -o $@
EMU_LIBRARY = $(BUILD)/unit/libd2c_cuda.so
$(EMU_LIBRARY): $(EMU_OBJECTS) $(CUDA_BASE)
	@mkdir -p $(@D)
	$(CXX) $(EMU_CXXFLAGS) -shared $^ -lpthread -lm -o $@
unit: $(EMU_LIBRARY)

# Under ASan and UBSan: the kernels once more, with the op table and what the backend and the emulator promise, several
# processes, and a short run of every fuzz target.
SANITIZED_TESTS = test_ops test_cuda test_cuda_image test_emulator test_ranks
FUZZ_SOURCES = $(wildcard test/fuzz/fuzz_*.c)
SHORT_FUZZ = $(FUZZ_SOURCES:test/fuzz/%.c=$(BUILD)/unit/test_%)
sanitized:
	$(MAKE) SANITIZE=1 BUILD=$(BUILD)/asan D2C_CFLAGS='-O1 -g1' sanitized-tests
sanitized-tests: $(SANITIZED_TESTS:%=$(BUILD)/unit/%) $(SHORT_FUZZ) $(EMU_LIBRARY) $(if $(MPICC),$(BUILD)/unit/libd2c_mpi.so)
$(BUILD)/unit/test_fuzz_%: test/fuzz/fuzz_%.c test/fuzz/short.c $(LIBD2C)
	@mkdir -p $(@D)
	$(CC) $(D2C_CPPFLAGS) $(D2C_FLAGS) -MMD -MP $(filter %.c,$^) $(LIBD2C) $(D2C_LIBS) -o $@

# ---- the check on a machine with a GPU (bench/gpu/run) ---------------------------------------------------------------

# Programs that find their libraries in a folder beside theirs, so that they run where nothing else of ours is.
GPU_PROGRAMS = $(BUILD)/gpu/d2c $(BUILD)/gpu/test_ops $(patsubst bench/gpu/%.c,$(BUILD)/gpu/%,$(wildcard bench/gpu/*.c))
RELOCATABLE = -s -Wl,-rpath,'$$ORIGIN/../lib',--disable-new-dtags
$(BUILD)/gpu/d2c: $(CLI_OBJECTS) $(LIBD2C)
	@mkdir -p $(@D)
	$(CC) $(D2C_FLAGS) $^ $(D2C_LIBS) $(RELOCATABLE) -o $@
$(BUILD)/gpu/test_ops: test/unit/test_ops.c $(LIBD2C)
	@mkdir -p $(@D)
	$(CC) $(D2C_CPPFLAGS) $(D2C_FLAGS) -MMD -MP $< $(LIBD2C) $(D2C_LIBS) $(RELOCATABLE) -o $@
$(BUILD)/gpu/%: bench/gpu/%.c $(LIBD2C)
	@mkdir -p $(@D)
	$(CC) $(D2C_CPPFLAGS) $(D2C_FLAGS) -Ibench -MMD -MP $< $(LIBD2C) $(D2C_LIBS) $(RELOCATABLE) -o $@
ifneq ($(NVCC),)
GPU_LIBRARY = $(BUILD)/gpu/libd2c_cuda.so
$(GPU_LIBRARY): $(CUDA_OBJECTS) $(CUDA_BASE)
	@mkdir -p $(@D)
	$(NVCC) -shared -cudart static $^ -lcublasLt -Xlinker -rpath,'$$ORIGIN/../lib:$(CUDA_HOME)/lib64' \
		-Xlinker --exclude-libs,ALL -Xlinker -s -o $@
endif

.PHONY: bundle gpu-check
bundle: all $(GPU_PROGRAMS) $(GPU_LIBRARY)
	bench/gpu/bundle
gpu-check:
	bench/gpu/run

# Fuzz targets (clang): make fuzz, then build/fuzz/fuzz_X CORPUS SEEDS; each target says what its seeds are.
fuzz:
	$(MAKE) CC=clang SANITIZE=1 FUZZ=1 BUILD=$(BUILD)/fuzz fuzz-targets
fuzz-targets: $(FUZZ_SOURCES:test/fuzz/%.c=$(BUILD)/%)
$(BUILD)/fuzz_%: test/fuzz/fuzz_%.c $(LIBD2C)
	$(CC) $(D2C_CPPFLAGS) $(D2C_FLAGS) -fsanitize=fuzzer $< $(LIBD2C) $(D2C_LIBS) -o $@

# The module's parsers run over a shim of the backend.
FUZZ_PG_tensor = $(addprefix src/pg/,tensor.c tensor_io.c input_error.c engine_payload.c)
FUZZ_PG_selection = $(addprefix src/pg/,select_state.c select_io.c select_feature.c select_strata.c input_error.c) src/select/features.c
FUZZ_PG_FLAGS = -Isrc/pg -isystem $(shell $(PG_CONFIG) --includedir-server) -D_GNU_SOURCE -fwrapv -Wno-unused-parameter \
	-Wno-sign-compare -Wno-missing-field-initializers
FUZZ_PG_LIBS = -L$(shell $(PG_CONFIG) --pkglibdir) -lpgcommon -lpgport -lm
FUZZ_PG_COMPILE = $(CC) $(D2C_CPPFLAGS) $(filter-out -Wshadow -Wmissing-prototypes,$(D2C_FLAGS)) $(FUZZ_PG_FLAGS)
define FUZZ_PG_RULES
$(BUILD)/fuzz_$(1): test/fuzz/fuzz_$(1).c $(FUZZ_PG_$(1)) test/fuzz/postgres_shim.c test/fuzz/postgres_shim.h
	$$(FUZZ_PG_COMPILE) -fsanitize=fuzzer $$(filter %.c,$$^) $$(FUZZ_PG_LIBS) -o $$@
$(BUILD)/unit/test_fuzz_$(1): test/fuzz/fuzz_$(1).c test/fuzz/short.c $(FUZZ_PG_$(1)) test/fuzz/postgres_shim.c test/fuzz/postgres_shim.h
	@mkdir -p $$(@D)
	$$(FUZZ_PG_COMPILE) $$(filter %.c,$$^) $$(FUZZ_PG_LIBS) -o $$@
endef
$(eval $(call FUZZ_PG_RULES,tensor))
$(eval $(call FUZZ_PG_RULES,selection))

-include $(wildcard $(BUILD)/*/*.d src/pg/*.d src/select/*.d)

# The extension's script, in the order that its objects need each other.
SQL_PARTS = tensor order pooling select images attach metrics procedures prepare pages score selections budgets attach_rows condense engine
sql/d2c--$(EXTVERSION).sql: $(SQL_PARTS:%=sql/d2c/%.sql) Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION d2c" to load this file. \quit'; \
	    for part in $(SQL_PARTS); do echo; cat sql/d2c/$$part.sql; done; } >$@.new
	mv $@.new $@
# Until 0.2.0 is released its update is made of the same parts, those in which something was added or changed, and of the
# descriptions in others.
UPDATE_PARTS = order pooling procedures prepare pages score selections budgets attach_rows condense
UPDATE_COMMENTS = select metrics
sql/d2c--0.1.0--0.2.0.sql: sql/update/0.1.0--0.2.0.sql $(UPDATE_PARTS:%=sql/d2c/%.sql) $(UPDATE_COMMENTS:%=sql/d2c/%.sql) Makefile
	{ printf '%s\n' "\\echo Use \"ALTER EXTENSION d2c UPDATE TO '0.2.0'\" to load this file. \\quit"; cat $<; \
	    for part in $(UPDATE_PARTS); do echo; sed -E 's/^CREATE (FUNCTION|PROCEDURE)/CREATE OR REPLACE \1/' sql/d2c/$$part.sql; done; \
	    for part in $(UPDATE_COMMENTS); do echo; awk "/^COMMENT ON/, /';\$$/" sql/d2c/$$part.sql; done; } >$@.new
	mv $@.new $@
# (PGXS has a rule of its own for packed files, the other way round.)
$(RELEASED:%=%.gz): ;
$(RELEASED): %: %.gz
	gunzip -c $< >$@.new
	mv $@.new $@

# The program is installed once, where the module starts the engine from, and linked from PostgreSQL's bin.
install: install-program
install-program: $(D2C_PROGRAM) $(CUDA_LIBRARY) $(MPI_LIBRARY)
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)' '$(DESTDIR)$(bindir)' '$(DESTDIR)$(datadir)/d2c/models'
	$(INSTALL_PROGRAM) $(D2C_PROGRAM) '$(DESTDIR)$(pkglibdir)/d2c-engine.new'
	mv -f '$(DESTDIR)$(pkglibdir)/d2c-engine.new' '$(DESTDIR)$(pkglibdir)/d2c-engine'
	ln -sf '$(pkglibdir)/d2c-engine' '$(DESTDIR)$(bindir)/d2c'
	$(if $(CUDA_LIBRARY),$(INSTALL_PROGRAM) $(CUDA_LIBRARY) '$(DESTDIR)$(pkglibdir)/libd2c_cuda.so')
	$(if $(MPI_LIBRARY),$(INSTALL_PROGRAM) $(MPI_LIBRARY) '$(DESTDIR)$(pkglibdir)/libd2c_mpi.so')

uninstall: uninstall-program
uninstall-program:
	rm -f '$(DESTDIR)$(pkglibdir)/d2c-engine' '$(DESTDIR)$(bindir)/d2c' '$(DESTDIR)$(pkglibdir)/libd2c_cuda.so' \
		'$(DESTDIR)$(pkglibdir)/libd2c_mpi.so'

clean: clean-build
clean-build:
	rm -rf $(BUILD)

# ---- the two commands of the README, and what they stand on --------------------------------------------------------

deps:
	.ci/packages

check-unit: unit sanitized
	test/run unit

installcheck:
	test/run regress
	test/run tap

check-assertions:
	test/assertions

test: deps
	$(MAKE) -j$$(nproc) all unit sanitized bench-programs
	test/run all

demo:
	.ci/packages demo
	$(MAKE) -j$$(nproc) all
	bench/demo/run $(SCALE)

bench: all
	bench/run

format:
	clang-format -i src/[!p]*/*.[ch] src/pg/engine_client.h test/unit/*.[ch] bench/*.c bench/gpu/*.[ch] kernels/* test/emu/*.[ch]*
