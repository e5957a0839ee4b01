/* SPDX-License-Identifier: MIT */
/**
 * @file bn2d.h
 * @brief bn2d: batch normalisation over (N, C, H, W) for the CPU. The C ABI and its manual.
 *
 * What it computes, for each channel c over its M = N*H*W elements:
 *
 *     training   mean = sum(x)/M,  var = sum((x-mean)^2)/M,  invstd = 1/sqrt(var+eps)
 *                y = weight*(x-mean)*invstd + bias
 *                running_mean <- (1-m)*running_mean + m*mean
 *                running_var  <- (1-m)*running_var  + m*var*M/(M-1)
 *     eval       the same y from running_mean and running_var; nothing changes
 *
 * as torch.nn.BatchNorm2d does. m is the momentum, the weight of the *new* value; without a
 * momentum it is 1/num_batches_tracked (cumulative average). What has a weight of exactly 0 is left
 * out: with m = 0 a NaN of the batch stays out of the running statistics, and with m = 1 a NaN in
 * them goes away. With eps = 0 a constant channel has invstd = 0 and y = bias. Where a value of a
 * channel is infinite or NaN, its mean and variance are infinite or NaN; which of the two depends
 * on the type and the number of values.
 *
 * ## A program
 *
 *     bn2d_module *bn = NULL;
 *     bn2d_record *record = NULL;
 *     bn2d_module_create(64, NULL, &bn);                // 64 channels, defaults
 *     bn2d_forward_f32(bn, x, 8, 32, 32, y, &record);   // training; what backward needs
 *     bn2d_backward_f32(bn, record, dy, dx);            // adds to weight.grad, bias.grad
 *     bn2d_record_release(record);
 *     bn2d_module_eval(bn);
 *     bn2d_forward_f32(bn, x, 8, 32, 32, y, NULL);      // running statistics
 *     bn2d_module_release(bn);
 *
 * ## Rules that hold for every function
 *
 * **Status.** A function returns BN2D_OK (0) or a negative BN2D_ERROR_* and never calls exit or
 * abort, throws, prints or raises a signal. A call that fails has changed nothing: no output,
 * buffer, counter, gradient or out parameter. After a failure bn2d_last_error() tells the fact and
 * both values in one line. Functions that cannot fail return their value directly; release
 * functions return void.
 *
 * **Statuses of every function.** Any function that takes a handle returns
 * BN2D_ERROR_INVALID_HANDLE where the handle is of another kind or dead; any function returns
 * BN2D_ERROR_INVALID_ARGUMENT for a NULL pointer that is not documented as optional,
 * BN2D_ERROR_OUT_OF_MEMORY when memory runs out and BN2D_ERROR_INTERNAL for a fault of this
 * library. The comments below list what comes on top of these four. (Where dlopen() has loaded this
 * library or the C++ runtime, glibc ends the process if there is no memory for what a thread's
 * first call keeps for the thread. A thread that has to live without memory calls bn2d_last_error()
 * first.)
 *
 * **Handles** (bn2d_options, bn2d_module, bn2d_tensor, bn2d_record, bn2d_statistics) are opaque
 * and reference counted. A pointer written to an `out` parameter is one reference, owned by the
 * caller, who gives it back with the matching release function: in any order, on any thread, also
 * after the module is gone. Releasing NULL does nothing. A module owns one reference to each of its
 * tensors; looking one up gives the same pointer each time.
 *  - A dead handle (all of its references given back) is recognised until at least 65,536 other
 *    handles of its kind have died after it, or were not made because their call failed: functions
 * return BN2D_ERROR_INVALID_HANDLE, releasing it does nothing. Later its value may be that of a new
 * handle, and releasing it once more would take a reference from that one.
 *  - A caller can hold 16,777,215 references to one handle; one more, by retaining or by looking
 *    up, is BN2D_ERROR_OVERFLOW. The count never runs over, and no number of releases takes the
 *    module's own reference.
 *  - The pointer is a value to compare and to pass on: nothing can be read through it. A pointer
 *    that never was a handle is undefined behaviour, as with free().
 *
 * **Pointers.** `const char *` results are static or belong to the handle they were asked from; do
 * not free them. Arrays and views passed in are read during the call only, except where a record
 * borrows them (see bn2d_record).
 *
 * **Threads.** Each comment says what may run concurrently:
 *  - *free*: callable from any thread at any time.
 *  - *shared*: may run concurrently with other shared functions on the same module.
 *  - *exclusive*: needs the module alone. A violation returns BN2D_ERROR_BUSY and changes nothing.
 *  - *one per object*: one thread at a time for each object, which the host sees to: a violation is
 *    not noticed. Other objects do not matter.
 *
 * Until a call returns, its caller keeps a reference to every handle that it passed, also to
 * records and statistics. Where another thread releases the last one meanwhile, the call uses
 * memory that is gone. No word above changes that: *free* means any time at which the handle lives.
 *
 * Different modules are independent. Memory that the caller reads or writes himself through
 * bn2d_tensor_data() is the caller's to guard. Work is shared out over the oneTBB arena of the
 * calling thread, or over the thread pool that the host has chosen (see "the host's threads"). The
 * calling thread never runs other tasks of its arena while it waits, and workers take over its
 * floating-point mode. The result is bitwise the same for any number of threads and any pool; only
 * the sign and payload of a NaN may differ. A call takes at most 20 KiB of its thread's stack.
 * Where oneTBB fails, for lack of memory or threads, the call is done by its calling thread, and so
 * is every later one of the process that would use oneTBB. Where there is not even address space to
 * start it, only that one call is, and a later call starts oneTBB. (Where the heap has not a byte
 * left while oneTBB loads its parts, dlopen() of glibc 2.36 crashes.) While one thread makes the
 * first call that is large enough for several threads, the calls of other threads run on those
 * threads.
 *
 * **fork().** A child may use everything that the parent had, whatever other threads were doing at
 * the moment of the fork: no function waits for a thread that the child does not have, and a module
 * that another thread was using is free. It may be in the middle of that call's changes: its
 * running statistics or gradients may be half updated. Where a call had used a thread pool before
 * the fork, calls of the child are done by their calling thread, or by a pool of the host's that is
 * set after the fork (bn2d_set_host_thread_pool()). Not allowed: to fork in a signal handler that
 * has interrupted one of our functions.
 *
 * **Cancellation.** No function is a cancellation point: pthread_cancel() takes effect after the
 * call. This holds for the default type, PTHREAD_CANCEL_DEFERRED; with PTHREAD_CANCEL_ASYNCHRONOUS
 * only what POSIX lists may be called, and that is nothing of ours. A thread may end by
 * pthread_exit() at any time outside of our functions.
 *
 * **Memory that stays.** After a call the process keeps its working memory for the next one: at
 * most 16 blocks of at most 16 MiB, those that calls held at the same time. A module keeps at
 * most four records that were released. A dead handle's slot is used again after 4096 others of its
 * kind, each time with another of 16 tags, so that dead handles are noticed. Slots never go back to
 * the system: for each of the five kinds at most twice what the largest number alive took, and 1
 * MiB. A thread pool of the host stays, too: 64 bytes for each other function, user or number of
 * threads.
 *
 * **Numbers.** y and dx are accurate wherever their exact value is finite: also where x - mean, a
 * square, a sum or weight/std leaves the range of the type. What an activation or a residual is
 * applied to, weight*xhat + bias, has to be within the range itself, and so has the gradient there,
 * dy times the slope of the activation. For |slope| > 1 the unit of y's error bound grows with
 * |slope|. A pointwise activation of a given argument is within 6 ulp of its own value (relu6,
 * clamp: exact), except below v = -88 (double: -709; gelu: -13 and -37), where it is 0 or loses
 * digits on its way to it; an ulp of y is then that of the largest argument or result of the
 * channel. Float and half data are summed in float for 16 elements at a time, then in double
 * (channels of fewer than 512 elements, in backward 128, in double alone). y and dx are within 4
 * ulp then (float64: 8), where an ulp of y is that of the largest |y| or |bias| of the channel, and
 * one of dx that of |weight|/std*(|g| + mean|g| + |xhat|*mean|g*xhat|); a mean is within 1 ulp or
 * 2^-24 standard deviations, a variance within 4 ulp, dbias within 2^-23 of the sum of |g|, dweight
 * within 2^-23 of the sum of |g|*max(|xhat|, 1). These bounds take it that the roundings of a
 * channel do not all go the same way. They may where its rows repeat the same few elements, as in
 * expanded tensors. There a mean was off by 2.5*2^-24 standard deviations, y of ten random columns
 * by 5.2 ulp, and y of elements that were made for it by 16. Or one gradient is most of the sum:
 * there dx was off by 5.7 ulp, dbias and dweight by 2.3*2^-23 of the sum. A channel whose numbers
 * come near the ends of the range is computed by other means. Which channels these are is checked
 * in another way where other outputs are wanted: where dweight is not, the last bit of such a
 * channel's dx may be another one. In group norm of planes of up to 16 elements this holds for all
 * channels: the last bits of gradients may be others where dx is not wanted, or dz is. A call
 * leaves the floating-point exception flags as they were, and traps nothing: neither on its own
 * thread nor on its workers.
 *
 * **Names and numbers.** Nothing needs a macro: enums travel as int32_t, extents as int64_t,
 * hyper-parameters as double, truth as int32_t 0 or 1; every constant is also reached by name with
 * bn2d_constant_by_name().
 *
 * **Growth.** Functions, constants and table slots are only ever added. "Since" tells the first
 * version.
 */
#ifndef BN2D_BN2D_H
#define BN2D_BN2D_H

#include <stddef.h>
#include <stdint.h>

/** Version of this header; that of the library is bn2d_version(). */
#define BN2D_VERSION_MAJOR 1
/** Grows with what is added. */
#define BN2D_VERSION_MINOR 3
/** Grows with fixes. */
#define BN2D_VERSION_PATCH 0

/** Version of the function table, for bn2d_get_api(). */
#define BN2D_API_VERSION 4

/** Marks what the library exports. */
#if defined(__GNUC__) || defined(__clang__)
#define BN2D_API __attribute__((visibility("default")))
#else
#define BN2D_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Options for a new module. Made with bn2d_options_create(), given back with
 * bn2d_options_release().
 */
typedef struct bn2d_options bn2d_options;
/**
 * A module, of any of the norms: parameters, buffers, mode. Made with bn2d_module_create(),
 * bn2d_group_norm_create() or bn2d_instance_norm_create(), given back with bn2d_module_release().
 */
typedef struct bn2d_module bn2d_module;
/**
 * A named tensor of a module, or a gradient. Found with bn2d_module_tensor_*(), given back with
 * bn2d_tensor_release().
 */
typedef struct bn2d_tensor bn2d_tensor;
/**
 * What one forward call leaves for its backward: the statistics and the weight as they were
 * (copied), the geometry, the activation, and *borrowed* pointers to x, and to y or z where it
 * needs them (see bn2d_forward_act()). The caller keeps these in place and unchanged until the last
 * backward. May be used for backward any number of times. Given back with bn2d_record_release();
 * keeps nothing of the module alive but memory.
 */
typedef struct bn2d_record bn2d_record;
/**
 * Mean and variance of each channel, gathered from any number of tensors and of other statistics.
 * Made with bn2d_statistics_create(), given back with bn2d_statistics_release(). One thread at a
 * time may change it, and none may read it meanwhile. Since 1.3.
 */
typedef struct bn2d_statistics bn2d_statistics;

/* ------------------------------------------------------------------------------------ constants */

/** Results of functions. */
enum bn2d_status {
  BN2D_OK = 0, /**< Done. */
  BN2D_ERROR_INVALID_ARGUMENT =
      -1, /**< A NULL pointer, a value out of its range, an unknown constant, two options or
             numbers that contradict each other. */
  BN2D_ERROR_INVALID_HANDLE = -2, /**< A handle of another kind, or a dead one. */
  BN2D_ERROR_NOT_FOUND = -3,      /**< No tensor, option or constant of that name or index. */
  BN2D_ERROR_SHAPE = -4,          /**< Rank, number of channels or extents of a tensor do not fit
                                     another tensor, an array, the module, or num_groups. */
  BN2D_ERROR_DTYPE = -5,          /**< A dtype that does not fit, or is unknown. */
  BN2D_ERROR_DEVICE = -6,         /**< Unsupported device: only CPU memory works. */
  BN2D_ERROR_LAYOUT = -7, /**< A negative stride, an output that overlaps itself, data not aligned
                             to its elements. */
  BN2D_ERROR_OVERLAP =
      -8, /**< What is written shares memory with something else, and is not in place of it. */
  BN2D_ERROR_OVERFLOW = -9, /**< A product of extents or strides leaves 64 bits, or memory the
                               address space; too many references. */
  BN2D_ERROR_TOO_FEW_VALUES = -10, /**< Batch statistics asked of 1 value per channel. */
  BN2D_ERROR_STATE = -11, /**< The module or record cannot do this: no such buffer, nothing recorded
                             for it, a counter beyond its range. */
  BN2D_ERROR_BUSY =
      -12, /**< Another thread is using the module in a way that excludes this call. */
  BN2D_ERROR_BUFFER_TOO_SMALL = -13, /**< The text does not fit the capacity given. */
  BN2D_ERROR_OUT_OF_MEMORY = -14,    /**< No memory. */
  BN2D_ERROR_INTERNAL = -15,         /**< A fault of this library. */
  BN2D_ERROR_IO = -16,               /**< A file cannot be read or written. Since 1.2. */
  BN2D_ERROR_FORMAT = -17            /**< A file is not what it should be. Since 1.2. */
};

/** Element types. Module dtypes: the first four. */
enum bn2d_dtype {
  BN2D_F32 = 1,  /**< IEEE binary32 ("float32"). */
  BN2D_F64 = 2,  /**< IEEE binary64 ("float64"). */
  BN2D_F16 = 3,  /**< IEEE binary16 ("float16"). */
  BN2D_BF16 = 4, /**< bfloat16 ("bfloat16"). */
  BN2D_I64 = 5   /**< 64-bit signed integer ("int64"): num_batches_tracked only. */
};

/** Devices: names and numbers of DLPack. Only BN2D_CPU works; others give BN2D_ERROR_DEVICE. */
enum bn2d_device {
  BN2D_CPU = 1,  /**< kDLCPU */
  BN2D_CUDA = 2, /**< kDLCUDA: recognised, unsupported */
  BN2D_ROCM = 10 /**< kDLROCM: recognised, unsupported */
};

/**
 * Activations of the fused forms: y = act(v), v = bn(x) + z. Those from BN2D_ACT_RELU6 on are
 * *pointwise*: they have no mask (bn2d_mask_nbytes()), and backward computes v again. So their
 * record borrows x and z (bn2d_forward_act()), and their stateless backward is
 * bn2d_batch_norm_backward_act() or bn2d_group_norm_backward_act(), their stateless double backward
 * bn2d_batch_norm_double_backward_act() or bn2d_group_norm_double_backward_act(). A NaN stays one.
 * In the far tails y and the gradient are their limits: silu of -infinity is -0. Where v is at a
 * kink but for its rounding, backward may take the other side than y shows.
 */
enum bn2d_activation {
  BN2D_ACT_NONE = 0,       /**< identity */
  BN2D_ACT_RELU = 1,       /**< max(v, 0); the gradient at 0 is 0 */
  BN2D_ACT_LEAKY_RELU = 2, /**< v > 0 ? v : slope*v; the gradient at 0 is slope */
  BN2D_ACT_RELU6 = 3,      /**< min(max(v, 0), 6); the gradient at 0 and 6 is 0. Since 1.3. */
  /** min(max(v, 0), slope): `slope` is the upper bound, above 0; the gradient at 0 and there is 0.
   * To clamp to [a, b]: take a from the bias, use the bound b - a, and add a to y. Since 1.3. */
  BN2D_ACT_CLAMP = 4,
  /** v*min(max(v + 3, 0), 6)/6; the gradient at -3 is 0, at 3 it is 1. Since 1.3. */
  BN2D_ACT_HARDSWISH = 5,
  BN2D_ACT_SILU = 6,   /**< v/(1 + exp(-v)), also called swish. Since 1.3. */
  BN2D_ACT_GELU = 7,   /**< v*(1 + erf(v/sqrt(2)))/2, not its tanh form. Since 1.3. */
  BN2D_ACT_SIGMOID = 8 /**< 1/(1 + exp(-v)). Since 1.3. */
};

/** Layouts of contiguous tensors, for the functions without views. */
enum bn2d_layout {
  BN2D_NCHW = 1, /**< W fastest, then H, C, N. */
  BN2D_NHWC = 2  /**< C fastest, then W, H, N: channels_last. */
};

/** Kinds of tensors. */
enum bn2d_tensor_kind {
  BN2D_PARAMETER = 1, /**< weight, bias */
  BN2D_BUFFER = 2,    /**< running_mean, running_var, num_batches_tracked */
  BN2D_GRADIENT = 3   /**< the gradient of a parameter */
};

/** Thread pools: who runs the workers of a call. */
enum bn2d_thread_pool {
  BN2D_POOL_DEFAULT = 0, /**< Of a module: that of the process. Of the process: oneTBB. */
  BN2D_POOL_TBB = 1,     /**< The oneTBB arena of the calling thread. */
  BN2D_POOL_OPENMP = 2,  /**< The OpenMP runtime that is in the process already. */
  BN2D_POOL_HOST = 3     /**< A function of the host. */
};

/** Flags of bn2d_batch_norm_forward(); 0 is the default. Bits may be or-ed. */
enum bn2d_flag {
  BN2D_FLAG_BIASED_RUNNING_VAR = 1, /**< running_var from the biased variance (ONNX convention). */
  BN2D_FLAG_PROTECT_RUNNING_STATS = 2 /**< As bn2d_options_set_protect_running_stats(). */
};

/**
 * A tensor somewhere in the caller's memory: the memory layout of DLPack's DLTensor, so that a
 * `DLTensor *` needs only a cast. Element (n, c, h, w) lies at (char *)data + byte_offset +
 * (n*strides[0] + c*strides[1] + ...) * sizeof(element).
 *  - contiguous NCHW: strides NULL or {C*H*W, H*W, W, 1}; channels_last (NHWC): {H*W*C, 1, W*C, C};
 *    both are read in place (bench/README.md compares their speed).
 *  - ndim 5: blocks of b channels, as oneDNN has them (nChw16c, nChw8c). The shape is
 *    {N, C/b, H, W, b}, strides NULL or {C*H*W, H*W*b, W*b, b, 1}; channel c is number c%b of block
 *    c/b. So C is a multiple of b: channels that only pad the last block are not known here. Blocks
 *    take about as long as channels_last (`bn2d_bench --filter '^blocked/' --threads 1`), longer
 *    than NCHW where their rows have gaps. A mask is that of (N, C, H, W). Since 1.3.
 *  - any other positive strides work, too. With planes of 28x28 or more, a call then takes this
 *    many times as long as with the same data in NCHW or channels_last (`bn2d_bench --filter
 *    '^(permuted|border)/'`):
 *
 *                                              training, backward   eval
 *        N between C and H                     1                    1 to 1.3
 *        H fastest                             1.7 to 2.3           1
 *        N fastest                             4 to 6               1 to 3
 *        C fastest, then H                     2 to 7               1
 *        rows with gaps, as within a border    2.5 to 6             1.5 to 5
 *
 *    Training and backward of group norm, instance norm and ghost batches take 3 to 10 times as
 *    long in these orders, with N fastest 15 to 60 times: a copy in NCHW is quicker there.
 *
 *    Smaller planes take longer: 14x14 within a border up to 6 times in training, 8 in eval. Rows
 *    of few elements take longest, and single ones with gaps between them, as a column of a
 *    matrix.
 *
 *    The stride of an extent of 0 or 1 does not matter.
 *  - a tensor that is only read may have strides of 0, as an expanded one has: one element is read
 *    again and again. In a tensor that is written, no two elements may share memory:
 *    BN2D_ERROR_LAYOUT.
 *  - data + byte_offset is aligned to its elements, else BN2D_ERROR_LAYOUT. A sum that leaves the
 *    address space, or a tensor that reaches beyond it, gives BN2D_ERROR_OVERFLOW.
 *
 * A float32 tensor of n images, c channels and h by w pixels, in channels_last:
 *
 *     const int64_t shape[4] = {n, c, h, w}, strides[4] = {h * w * c, 1, w * c, c};
 *     const bn2d_view x = {.data = memory, .device_type = BN2D_CPU, .ndim = 4, .dtype_code = 2,
 *                          .dtype_bits = 32, .dtype_lanes = 1, .shape = shape, .strides = strides};
 *
 * A tensor without W, or without H and W, has 1 for them: (N, C, L, 1), (N, C, 1, 1).
 */
typedef struct bn2d_view {
  void *data;             /**< Start of the memory; may be NULL where the tensor has no elements. */
  int32_t device_type;    /**< BN2D_CPU */
  int32_t device_id;      /**< 0 */
  int32_t ndim;           /**< 4; 5: blocks of channels */
  uint8_t dtype_code;     /**< DLPack code: 2 float, 4 bfloat */
  uint8_t dtype_bits;     /**< 16, 32, 64 */
  uint16_t dtype_lanes;   /**< 1 */
  const int64_t *shape;   /**< N, C, H, W; or N, C/b, H, W, b */
  const int64_t *strides; /**< In elements, or NULL for contiguous. */
  uint64_t byte_offset;   /**< Added to data. */
} bn2d_view;

/* ----------------------------------------------------------------------- library, errors, names */

/** Version as major*1000000 + minor*1000 + patch. Threads: free. Since 1.0. */
BN2D_API uint32_t bn2d_version(void);
/** Version as text, "1.0.0"; static. Threads: free. Since 1.0. */
BN2D_API const char *bn2d_version_string(void);
/**
 * Compiler, libraries and SIMD targets this library was built with, one line; static. Threads:
 * free. Since 1.0.
 */
BN2D_API const char *bn2d_build_info(void);
/**
 * Name of the SIMD target in use; static. On x86-64 "AVX3" (AVX-512), "AVX2", "SSE4" or "SCALAR";
 * bn2d_build_info() lists those of this build. The best one that the CPU has, or the one named by
 * the environment variable BN2D_SIMD (read at first use; a name that is unknown or not supported is
 * ignored, and case matters). BN2D_SIMD=SSE4 helps where valgrind 3.19 meets an instruction of AVX2
 * that it does not know. Threads: free. Since 1.0.
 */
BN2D_API const char *bn2d_simd_target(void);
/**
 * The message of the last call that failed on this thread: one line, UTF-8, at most 255 bytes. ""
 * before the first failure. The pointer is valid until the thread ends; the text until the next
 * failing call on this thread. Successful calls leave it alone. Threads: free (each thread has its
 * own). Since 1.0.
 */
BN2D_API const char *bn2d_last_error(void);
/**
 * Name of a status, "BN2D_ERROR_SHAPE"; "unknown status" for another number; static. Threads: free.
 * Since 1.0.
 */
BN2D_API const char *bn2d_status_name(int32_t status);
/**
 * Name of a dtype as in Python: "float32"; "unknown dtype" for another number; static. Threads:
 * free. Since 1.0.
 */
BN2D_API const char *bn2d_dtype_name(int32_t dtype);
/** Bytes of an element of a dtype; 0 for an unknown one. Threads: free. Since 1.0. */
BN2D_API uint64_t bn2d_dtype_size(int32_t dtype);
/**
 * Looks up a dtype by name: "float32" or "f32", "float64" or "f64", "float16" or "f16", "bfloat16"
 * or "bf16", "int64" or "i64".
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_dtype_from_name(const char *name, int32_t *out);
/** Number of named constants, for bn2d_constant_at(). Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_constant_count(void);
/**
 * The constant at an index: its name (static) and its value.
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_constant_at(int32_t index, const char **out_name, int64_t *out_value);
/**
 * Looks up any constant of this header by its name, "BN2D_F32".
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_constant_by_name(const char *name, int64_t *out_value);
/**
 * Limits the threads that one call uses, for the whole process; a module's own limit, where set, is
 * the stricter of both.
 * @param threads 1 or more; 0 (the default): as many as the thread pool has: of oneTBB, the arena
 * of the calling thread.
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_set_num_threads(int32_t threads);
/** The limit set by bn2d_set_num_threads(), 0 where there is none. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_get_num_threads(void);
/**
 * Sets from how many bytes on an output is written past the caches (streaming stores). Speed only,
 * never results.
 * @param bytes 0: always; above 0: outputs of that many bytes or more; negative (the default):
 *   where the tensors of a call together exceed what the caches of its threads are taken to hold
 *   (bench/README.md has the rule under "Who streams").
 * @return BN2D_OK. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_set_streaming_threshold(int64_t bytes);
/**
 * The threshold set by bn2d_set_streaming_threshold(), negative where none is set. Threads: free.
 * Since 1.0.
 */
BN2D_API int64_t bn2d_get_streaming_threshold(void);

/* -------------------------------------------------------------------------------------- options */

/**
 * New options with the defaults of a batch norm: eps 1e-5, momentum 0.1; affine, bias and
 * track_running_stats 1; biased_running_var and protect_running_stats 0; cpu, float32; no thread
 * limit and no ghost batches (both 0). Options are checked when they are set and are copied by
 * bn2d_module_create(); one thread at a time may use an options object.
 * @param[out] out The options; give back with bn2d_options_release().
 * @return BN2D_OK. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_options_create(bn2d_options **out);
/** One more reference. @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_options_retain(bn2d_options *options);
/** Gives one reference back; NULL is allowed. Threads: free. Since 1.0. */
BN2D_API void bn2d_options_release(bn2d_options *options);
/**
 * eps, finite and not negative. @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT. Threads: one per
 * object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_eps(bn2d_options *options, double eps);
/**
 * momentum, in [0, 1]. @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT. Threads: one per object.
 * Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_momentum(bn2d_options *options, double momentum);
/**
 * No momentum: the running statistics are the plain average of all batches. @return BN2D_OK.
 * Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_momentum_none(bn2d_options *options);
/**
 * 1: weight and bias exist (bias see below); 0: neither does. @return BN2D_OK,
 * BN2D_ERROR_INVALID_ARGUMENT for other numbers. Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_affine(bn2d_options *options, int32_t affine);
/**
 * 0 with affine: a weight, but no bias. @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT for other
 * numbers than 0, 1. Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_bias(bn2d_options *options, int32_t bias);
/**
 * 0: no buffers; batch statistics in training and in eval. @return BN2D_OK,
 * BN2D_ERROR_INVALID_ARGUMENT for other numbers than 0, 1. Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_track_running_stats(bn2d_options *options, int32_t track);
/**
 * Device of parameters and buffers. @return BN2D_OK, BN2D_ERROR_DEVICE for any but (BN2D_CPU, 0).
 * Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_device(bn2d_options *options, int32_t device_type,
                                         int32_t device_id);
/**
 * dtype of parameters and buffers: one of the four floating dtypes. @return BN2D_OK,
 * BN2D_ERROR_DTYPE. Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_dtype(bn2d_options *options, int32_t dtype);
/**
 * 1: running_var takes the biased variance (ONNX convention). @return BN2D_OK,
 * BN2D_ERROR_INVALID_ARGUMENT. Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_biased_running_var(bn2d_options *options, int32_t biased);
/**
 * 1: a channel keeps its running statistics where new ones would not be finite in the module's
 * dtype: one NaN in a batch does not stay. What is NaN already stays, until
 * bn2d_module_reset_running_stats(). @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT. Threads: one per
 * object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_protect_running_stats(bn2d_options *options, int32_t protect);
/**
 * Thread limit of the module, as bn2d_module_set_num_threads(). @return BN2D_OK,
 * BN2D_ERROR_INVALID_ARGUMENT. Threads: one per object. Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_num_threads(bn2d_options *options, int32_t threads);
/**
 * Sets an option by its name and a value as text: "eps" "1e-3"; "momentum" "0.1", "None" or "none";
 * "affine", "bias", "track_running_stats", "biased_running_var", "protect_running_stats" "True",
 * "true", "1" or "False", "false", "0"; "device" "cpu"; "dtype" as bn2d_dtype_from_name();
 * "num_threads" "4"; "ghost_batch_size" "32". The same checks as the setters, whatever the host's
 * locale.
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND for an unknown name, else the setter's
 *   BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE. Threads: one per object.
 *   Since 1.0.
 */
BN2D_API int32_t bn2d_options_set_by_name(bn2d_options *options, const char *name,
                                          const char *value);

/* --------------------------------------------------------------------------------------- module */

/**
 * New module in training mode: weight 1, bias 0, running_mean 0, running_var 1, num_batches_tracked
 * 0, requires_grad 1.
 * @param num_features Number of channels C, 1 or more.
 * @param options NULL for the defaults; copied.
 * @param[out] out The module; give back with bn2d_module_release().
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_module_create(int64_t num_features, const bn2d_options *options,
                                    bn2d_module **out);
/** One more reference. @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_retain(bn2d_module *module);
/**
 * Gives one reference back; NULL is allowed. Tensors, exports and records handed out stay valid.
 * Threads: free. Since 1.0.
 */
BN2D_API void bn2d_module_release(bn2d_module *module);
/**
 * Training mode (training = 1) or eval mode (0). @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT,
 * BN2D_ERROR_BUSY. Threads: exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_module_train(bn2d_module *module, int32_t training);
/**
 * Eval mode; the same as bn2d_module_train(module, 0). @return BN2D_OK, BN2D_ERROR_BUSY. Threads:
 * exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_module_eval(bn2d_module *module);
/** 1 in training mode, 0 in eval mode. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_is_training(const bn2d_module *module, int32_t *out);
/** Number of channels. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_num_features(const bn2d_module *module, int64_t *out);
/** eps. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_eps(const bn2d_module *module, double *out);
/**
 * *out_has 1 and the momentum, or *out_has 0 and NaN: for the cumulative average, or for a module
 * that never has running statistics (group norm). @return BN2D_OK. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_module_momentum(const bn2d_module *module, int32_t *out_has, double *out);
/** 1 where weight exists. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_affine(const bn2d_module *module, int32_t *out);
/** 1 where the buffers exist. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_track_running_stats(const bn2d_module *module, int32_t *out);
/** dtype of parameters and buffers. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_dtype(const bn2d_module *module, int32_t *out);
/** Device of parameters and buffers: BN2D_CPU, 0. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_device(const bn2d_module *module, int32_t *out_type, int32_t *out_id);
/**
 * Limits the threads of this module's calls; 0: the process's limit alone. @return BN2D_OK,
 * BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_BUSY. Threads: exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_module_set_num_threads(bn2d_module *module, int32_t threads);
/**
 * The module's own thread limit, 0 where there is none. @return BN2D_OK. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_module_get_num_threads(const bn2d_module *module, int32_t *out);
/**
 * The module as text: "BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=True,
 * track_running_stats=True)"; with ", ghost_batch_size=32" and ", frozen=True" at its end where it
 * is so. "GroupNorm(8, 64, eps=1e-05, affine=True, bias=True)".
 * @param module The module.
 * @param[out] buffer Receives the text and a NUL; may be NULL where capacity is 0.
 * @param capacity Bytes of buffer; 0 only asks for the length.
 * @param[out] length Bytes of the text without NUL; may be NULL. Written where capacity is 0 or the
 *   text fits.
 * @return BN2D_OK, BN2D_ERROR_BUFFER_TOO_SMALL (nothing written). Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_module_repr(const bn2d_module *module, char *buffer, uint64_t capacity,
                                  uint64_t *length);
/**
 * running_mean 0, running_var 1, num_batches_tracked 0; nothing to do where they do not exist.
 * @return BN2D_OK, BN2D_ERROR_BUSY. Threads: exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_module_reset_running_stats(bn2d_module *module);
/**
 * reset_running_stats, and weight 1, bias 0 (gradients stay). @return BN2D_OK, BN2D_ERROR_BUSY.
 * Threads: exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_module_reset_parameters(bn2d_module *module);
/** Sets every gradient to 0. @return BN2D_OK, BN2D_ERROR_BUSY. Threads: exclusive. Since 1.0. */
BN2D_API int32_t bn2d_module_zero_grad(bn2d_module *module);
/** Number of parameters and buffers. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_module_tensor_count(const bn2d_module *module, int32_t *out);
/**
 * A parameter or buffer by index, in the order weight, bias, running_mean, running_var,
 * num_batches_tracked; what does not exist is left out.
 * @param module The module.
 * @param index From 0 to bn2d_module_tensor_count() - 1.
 * @param[out] out The tensor; give back with bn2d_tensor_release().
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_module_tensor_at(const bn2d_module *module, int32_t index, bn2d_tensor **out);
/**
 * A parameter, buffer or gradient by name: "weight", "bias", "running_mean", "running_var",
 * "num_batches_tracked", "weight.grad", "bias.grad".
 * @param module The module.
 * @param name One of the names above.
 * @param[out] out The tensor; give back with bn2d_tensor_release().
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_module_tensor_by_name(const bn2d_module *module, const char *name,
                                            bn2d_tensor **out);

/* --------------------------------------------------------------------------------------- tensor */

/** One more reference. @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_tensor_retain(bn2d_tensor *tensor);
/** Gives one reference back; NULL is allowed. Threads: free. Since 1.0. */
BN2D_API void bn2d_tensor_release(bn2d_tensor *tensor);
/** *out: "weight", ...; static. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_tensor_name(const bn2d_tensor *tensor, const char **out);
/** One of bn2d_tensor_kind. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_tensor_kind(const bn2d_tensor *tensor, int32_t *out);
/** One of bn2d_dtype. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_tensor_dtype(const bn2d_tensor *tensor, int32_t *out);
/**
 * Number of dimensions: 1, or 0 for num_batches_tracked. @return BN2D_OK. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_rank(const bn2d_tensor *tensor, int32_t *out);
/**
 * Extent of a dimension, from 0. @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_dim(const bn2d_tensor *tensor, int32_t dimension, int64_t *out);
/** Bytes of the elements. @return BN2D_OK. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_tensor_nbytes(const bn2d_tensor *tensor, uint64_t *out);
/**
 * Pointer to the elements, contiguous, aligned to 64 bytes. Borrowed: valid while the caller holds
 * the tensor, and the same for its whole life. The caller may read and write through it while no
 * call uses the module.
 * @return BN2D_OK. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_data(const bn2d_tensor *tensor, void **out);
/**
 * The gradient of a parameter: a tensor of the same shape and dtype, 0 at first, accumulated by
 * backward.
 * @param tensor A parameter.
 * @param[out] out The gradient; give back with bn2d_tensor_release().
 * @return BN2D_OK, BN2D_ERROR_STATE for a tensor that is no parameter, BN2D_ERROR_OVERFLOW.
 *   Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_grad(const bn2d_tensor *tensor, bn2d_tensor **out);
/**
 * 1 where backward accumulates this parameter's gradient; 0 for any other tensor. @return BN2D_OK.
 * Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_requires_grad(const bn2d_tensor *tensor, int32_t *out);
/**
 * Switches a parameter's gradient on (1) or off (0). It counts for every later backward, also of
 * records made before.
 * @return BN2D_OK, BN2D_ERROR_STATE for a tensor that is no parameter, BN2D_ERROR_INVALID_ARGUMENT.
 *   Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_set_requires_grad(bn2d_tensor *tensor, int32_t requires_grad);
/**
 * Copies all elements from `source`, which has the tensor's shape; a stride of 0 copies one element
 * to all. For num_batches_tracked, of rank 0, a source of shape (1) does as well. Floating dtypes
 * convert, rounding to nearest even; int64 only from and to int64 (DLPack code 0, 64 bits).
 * @param tensor Receives the elements.
 * @param[in] source The elements.
 * @return BN2D_OK, BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE, BN2D_ERROR_LAYOUT,
 *   BN2D_ERROR_OVERLAP, BN2D_ERROR_OVERFLOW. Threads: one per object, and no call of its module.
 *   Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_copy_from(bn2d_tensor *tensor, const bn2d_view *source);
/**
 * Copies all elements to `target`, whose stride is positive. Else as bn2d_tensor_copy_from().
 * @param tensor What is copied.
 * @param[out] target Receives the elements.
 * @return as bn2d_tensor_copy_from(). Threads: as bn2d_tensor_copy_from(). Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_copy_to(const bn2d_tensor *tensor, const bn2d_view *target);

struct DLManagedTensor;
struct DLManagedTensorVersioned;
/**
 * Exports the tensor without a copy as a DLPack 1.x managed tensor: what Python's from_dlpack takes
 * in a capsule named "dltensor_versioned". The caller, or who consumes it, calls its deleter once:
 * on any thread, also after module and tensor are released. Writes through it change the tensor.
 * @return BN2D_OK. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_to_dlpack(const bn2d_tensor *tensor,
                                       struct DLManagedTensorVersioned **out);
/**
 * The same as the older unversioned struct (capsule "dltensor"). @return BN2D_OK. Threads: free.
 * Since 1.0.
 */
BN2D_API int32_t bn2d_tensor_to_dlpack_legacy(const bn2d_tensor *tensor,
                                              struct DLManagedTensor **out);

/* ---------------------------------------------------------------------------- forward and backward
 *
 * Common to the functions of this section.
 *
 *  - **dtype**: that of the module; or f16/bf16 data with an f32 module. All tensors of one call,
 *    and of a record, have one dtype.
 *  - **Shape**: (N, C, H, W) with C the module's num_features, every tensor of a call the same;
 *    layouts, ranks and blocks may differ. N, H or W = 0 succeeds with nothing to write: the
 *    running statistics stay, the counter moves in training, gradients get +0. (Extents whose
 *    product leaves 64 bits are BN2D_ERROR_OVERFLOW all the same.)
 *  - **In place**: y may be exactly x or exactly z (same memory, strides and dtype); in backward dx
 *    or dz, in double backward ddy exactly dy. A forward on batch statistics that records cannot be
 *    in place of x, because backward needs x; in place of z it can.
 *  - **Overlap**: what a call writes shares memory with nothing else that it reads or writes, else
 *    BN2D_ERROR_OVERLAP. That includes tensors of the module (their memory is reached with
 *    bn2d_tensor_data()), as far as the call uses them: a forward weight, bias, running statistics
 *    and counter, a backward the gradients that it adds to; a record has its own copy of weight
 *    and bias. What a call only reads may share memory, and interleaved slices that have no element
 *    in common are fine.
 *  - **Alignment**: pointers to elements are aligned to them, else BN2D_ERROR_LAYOUT.
 *  - **Statistics**: the running ones in eval mode, and in training mode of a module that is frozen
 *    (bn2d_module_set_frozen()). Otherwise, and where there are no running ones, those of the
 *    batch.
 */

/**
 * Forward of contiguous NCHW float data: y = bn(x). In training mode it moves the running
 * statistics and the counter, recorded or not.
 * @param module An f32 module; in training mode its running statistics move.
 * @param[in] x n*C*h*w elements, C the module's num_features. Borrowed by the record.
 * @param n,h,w Extents, 0 or more.
 * @param[out] y As many elements. Where there are none, any pointer will do.
 * @param[out] record NULL: nothing is recorded. Else receives a record for backward; give back with
 *   bn2d_record_release().
 * @return BN2D_OK, BN2D_ERROR_DTYPE (module is not f32), BN2D_ERROR_SHAPE (negative extent),
 *   BN2D_ERROR_LAYOUT (not aligned), BN2D_ERROR_OVERFLOW, BN2D_ERROR_OVERLAP,
 *   BN2D_ERROR_TOO_FEW_VALUES (batch statistics of 1 value per channel), BN2D_ERROR_STATE (in
 *   training: num_batches_tracked, which the host may write, is negative or at its largest),
 *   BN2D_ERROR_BUSY. Threads: shared on running statistics (in eval mode, or frozen), and in eval
 *   mode of a group or instance norm; else exclusive. A batch norm without running statistics is
 *   exclusive in both modes. Since 1.0.
 */
BN2D_API int32_t bn2d_forward_f32(bn2d_module *module, const float *x, int64_t n, int64_t h,
                                  int64_t w, float *y, bn2d_record **record);
/** As bn2d_forward_f32(), for double data and an f64 module. Since 1.0. */
BN2D_API int32_t bn2d_forward_f64(bn2d_module *module, const double *x, int64_t n, int64_t h,
                                  int64_t w, double *y, bn2d_record **record);
/**
 * Forward of any layout and dtype: y = bn(x). As bn2d_forward_f32().
 * @return as bn2d_forward_f32(), and BN2D_ERROR_DEVICE. Threads: as bn2d_forward_f32(). Since 1.0.
 */
BN2D_API int32_t bn2d_forward(bn2d_module *module, const bn2d_view *x, const bn2d_view *y,
                              bn2d_record **record);
/**
 * Fused forward: y = act(bn(x) + z). As bn2d_forward(). Backward has to know on which side of the
 * activation each element was. On batch statistics and without z it finds that from x: y is not
 * needed and may be overwritten (by dx, too). Otherwise it reads y, which the record borrows: keep
 * it unchanged. With a negative slope y cannot tell, so the record keeps a mask of one bit per
 * element. The argument of a pointwise activation (BN2D_ACT_RELU6 and those after it) is computed
 * again: the record borrows x and z, also on running statistics, and keeps the bias; y is not
 * needed, but must be neither x nor z (BN2D_ERROR_OVERLAP) where something is recorded.
 * @param module The module.
 * @param[in] x Data of any layout. Borrowed by the record.
 * @param[in] z NULL: no residual. Borrowed by the record of a pointwise activation.
 * @param activation One of bn2d_activation.
 * @param slope Slope of BN2D_ACT_LEAKY_RELU, finite, and for all data but double within the range
 *   of float (they are computed in float); upper bound of BN2D_ACT_CLAMP, likewise in range
 *   and above 0, also as a float; ignored by the others.
 * @param[out] y Borrowed by the record where that needs it.
 * @param[out] record As in bn2d_forward_f32(); NULL: nothing is recorded.
 * @return as bn2d_forward(), and BN2D_ERROR_INVALID_ARGUMENT for the activation or slope. Threads:
 *   as bn2d_forward_f32(). Since 1.0.
 */
BN2D_API int32_t bn2d_forward_act(bn2d_module *module, const bn2d_view *x, const bn2d_view *z,
                                  int32_t activation, double slope, const bn2d_view *y,
                                  bn2d_record **record);
/**
 * Backward of contiguous NCHW float data. Accumulates into weight.grad and bias.grad where they
 * require a gradient.
 * @param module The module that recorded.
 * @param record From a forward of *this* module. Only the extents of its x matter here, not its
 * layout.
 * @param[in] dy Gradient of y, n*C*h*w elements.
 * @param[out] dx Gradient of x, overwritten; NULL: not wanted (nor computed).
 * @return BN2D_OK, BN2D_ERROR_DTYPE, BN2D_ERROR_LAYOUT (not aligned), BN2D_ERROR_OVERLAP,
 *   BN2D_ERROR_STATE (record of another module; x was overwritten in place and is needed),
 *   BN2D_ERROR_BUSY. Threads: exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_backward_f32(bn2d_module *module, const bn2d_record *record, const float *dy,
                                   float *dx);
/** As bn2d_backward_f32(), for double data. Since 1.0. */
BN2D_API int32_t bn2d_backward_f64(bn2d_module *module, const bn2d_record *record, const double *dy,
                                   double *dx);
/**
 * Backward of any layout and dtype, fused forms included. As bn2d_backward_f32().
 * @param module The module that recorded.
 * @param record From a forward of *this* module.
 * @param[in] dy Gradient of y.
 * @param[out] dx Gradient of x, or NULL: not wanted.
 * @param[out] dz Gradient of z (dy through the activation), or NULL: not wanted.
 * @return as bn2d_backward_f32(), and BN2D_ERROR_SHAPE, BN2D_ERROR_DEVICE, BN2D_ERROR_OVERFLOW.
 *   Threads: exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_backward(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                               const bn2d_view *dx, const bn2d_view *dz);
/**
 * Backward of backward: for a loss that depends on dx, dweight and dbias, the gradients with
 * respect to dy, x and weight.
 * @param module The module that recorded.
 * @param record From a forward of *this* module.
 * @param[in] dy As given to backward.
 * @param[in] ddx Gradient of the loss with respect to dx; NULL: zero.
 * @param[in] ddweight,ddbias With respect to dweight and dbias, C elements of the module's dtype;
 *   NULL: zero.
 * @param[out] ddy With respect to dy; NULL: not wanted. May be exactly dy.
 * @param[out] dx With respect to x; NULL: not wanted. The gradient with respect to weight is added
 *   to weight.grad. Through BN2D_ACT_HARDSWISH, BN2D_ACT_SILU, BN2D_ACT_GELU and BN2D_ACT_SIGMOID,
 *   that with respect to bias is added to bias.grad. For a residual, and for the time and memory
 *   that a pointwise activation takes, see bn2d_double_backward_act().
 * @return as bn2d_backward(). Threads: exclusive. Since 1.0.
 */
BN2D_API int32_t bn2d_double_backward(bn2d_module *module, const bn2d_record *record,
                                      const bn2d_view *dy, const bn2d_view *ddx,
                                      const void *ddweight, const void *ddbias,
                                      const bn2d_view *ddy, const bn2d_view *dx);
/** One more reference. @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.0. */
BN2D_API int32_t bn2d_record_retain(bn2d_record *record);
/** Gives one reference back; NULL is allowed. Threads: free. Since 1.0. */
BN2D_API void bn2d_record_release(bn2d_record *record);

/* ---------------------------------------------------------------------- functions without a module
 *
 * For hosts that own their storage. The same operations, the same checks; `dtype` is that of
 * weight, bias, running_mean, running_var and their gradients, C elements each: that of the data,
 * or BN2D_F32 with f16/bf16 data. Saved statistics are double whatever the dtype: a float cannot
 * hold a mean that is many standard deviations away from 0 precisely enough for an exact gradient.
 *
 * Arrays are checked as tensors are. Aligned to their elements, else BN2D_ERROR_LAYOUT. But for a
 * tensor in place of another (see bn2d_forward_act()), what a call writes shares memory with
 * nothing else of the call, tensor, array or mask, else BN2D_ERROR_OVERLAP: running_mean is not
 * running_var, saved_mean not saved_invstd, dweight neither dbias nor weight, and none of them lies
 * in a tensor; an array may lie between the elements of a strided one. What a call only reads may
 * share memory (weight and bias; the running statistics where batch_stats is 0). What a call does
 * not need is not looked at: y beside a mask; z of an activation that is not pointwise, and bias
 * beside such a z. The length of an array is not known here: it is taken to be C.
 */

/**
 * Stateless forward: y = act(bn(x) + z).
 * @param[in] x The data.
 * @param[in] z NULL: no residual.
 * @param[out] y As x.
 * @param dtype One of bn2d_dtype.
 * @param[in] weight,bias NULL: 1 and 0.
 * @param[in,out] running_mean,running_var With batch statistics: updated in place, each may be
 *   NULL. Without: read, required.
 * @param batch_stats 1: statistics of the batch; 0: the running ones.
 * @param averaging_factor Weight of the new value in [0, 1]; the k-th batch of a cumulative average
 *   has 1/k.
 * @param eps Added to the variance, finite and not negative.
 * @param flags Bits of bn2d_flag.
 * @param activation One of bn2d_activation.
 * @param slope As in bn2d_forward_act().
 * @param[out] mask Side of the activation, for a backward without y: bn2d_mask_nbytes() bytes;
 *   NULL: not wanted. Only with BN2D_ACT_RELU and BN2D_ACT_LEAKY_RELU.
 * @param[out] saved_mean,saved_invstd C doubles each, what was used; each may be NULL. Without
 *   elements nothing is written.
 * @return as bn2d_forward_act() but BN2D_ERROR_BUSY. Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_batch_norm_forward(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y,
                                         int32_t dtype, const void *weight, const void *bias,
                                         void *running_mean, void *running_var, int32_t batch_stats,
                                         double averaging_factor, double eps, int32_t flags,
                                         int32_t activation, double slope, uint8_t *mask,
                                         double *saved_mean, double *saved_invstd);
/**
 * Stateless backward.
 * @param[in] x As given to forward. NULL where nothing needs it: batch_stats 0 and no dweight.
 * @param[in] dy Gradient of y.
 * @param[in] y Output of forward, to read the activation's side off; NULL where mask is given or
 *   there is no activation.
 * @param[in] mask From forward; NULL where y is given or there is no activation.
 * @param dtype One of bn2d_dtype.
 * @param[in] weight NULL: 1.
 * @param[in] saved_mean From forward, C doubles. NULL where x may be.
 * @param[in] saved_invstd From forward, C doubles.
 * @param batch_stats As given to forward.
 * @param activation One of bn2d_activation that is not pointwise: of these the argument is needed,
 *   which is made of bias and z. bn2d_batch_norm_backward_act() takes them.
 * @param slope As given to forward.
 * @param blend 0: dweight and dbias are overwritten; 1: added to. Any finite b gives b*old + new;
 *   with 0 the old value is not read.
 * @param[out] dx,dz,dweight,dbias Each NULL: not wanted, not computed.
 * @return as bn2d_backward() but BN2D_ERROR_BUSY; BN2D_ERROR_INVALID_ARGUMENT where an input that
 *   is needed is missing (of tensors without elements y and mask are not), and for a pointwise
 *   activation.
 *   Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_batch_norm_backward(const bn2d_view *x, const bn2d_view *dy,
                                          const bn2d_view *y, const uint8_t *mask, int32_t dtype,
                                          const void *weight, const double *saved_mean,
                                          const double *saved_invstd, int32_t batch_stats,
                                          int32_t activation, double slope, double blend,
                                          const bn2d_view *dx, const bn2d_view *dz, void *dweight,
                                          void *dbias);
/**
 * Stateless double backward. As bn2d_double_backward() and bn2d_batch_norm_backward().
 * @param[in] x As given to forward.
 * @param[in] dy Gradient of y.
 * @param[in] y,mask As in bn2d_batch_norm_backward(); each NULL where the other is given or there
 *   is no activation.
 * @param dtype One of bn2d_dtype.
 * @param[in] weight NULL: 1.
 * @param[in] saved_mean From forward, C doubles.
 * @param[in] saved_invstd From forward, C doubles.
 * @param batch_stats As given to forward.
 * @param activation One of bn2d_activation that is not pointwise: of these the argument is needed.
 *   bn2d_batch_norm_double_backward_act() takes them.
 * @param slope As given to forward.
 * @param[in] ddx,ddweight,ddbias Gradients with respect to dx, dweight, dbias; each NULL: zero.
 * @param blend Of dweight: b*old + new, as in bn2d_batch_norm_backward().
 * @param[out] ddy,dx,dweight With respect to dy, x, weight; each NULL: not wanted. dweight blends.
 * @return as bn2d_batch_norm_backward(). Threads: free. Since 1.0.
 */
BN2D_API int32_t bn2d_batch_norm_double_backward(
    const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype,
    const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats,
    int32_t activation, double slope, const bn2d_view *ddx, const void *ddweight,
    const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, void *dweight);
/**
 * Bytes of a mask for (n, c, h, w): one bit per element, 1 where the argument of the activation is
 * above 0, or NaN. Planes follow one another, channel after channel of each sample, each in whole
 * bytes: position p of a plane is bit p%8, counted from the lowest, of its byte p/8; what is left
 * of the last byte is 0. The y of half data may be 0 where the argument is not, because it is too
 * small for them: a backward that reads y then takes the other side, and the mask is right.
 * @return BN2D_OK, BN2D_ERROR_SHAPE (negative extent), BN2D_ERROR_OVERFLOW. Threads: free.
 *   Since 1.0.
 */
BN2D_API int32_t bn2d_mask_nbytes(int64_t n, int64_t c, int64_t h, int64_t w, uint64_t *out);

/* ---------------------------------------------------------------------- scalars and pointers alone
 *
 * The same operations for languages that cannot pass a bn2d_view: contiguous tensors of one dtype
 * and layout.
 */

/**
 * As bn2d_forward_act(), of contiguous tensors.
 * @param module The module.
 * @param dtype BN2D_F32, BN2D_F64, BN2D_F16 or BN2D_BF16: of x, z and y.
 * @param layout BN2D_NCHW or BN2D_NHWC: of x, z and y.
 * @param[in] x (n, num_features, h, w) elements. Borrowed by the record.
 * @param[in] z As many; NULL: no residual. Borrowed by the record of a pointwise activation.
 * @param n,h,w Extents, 0 or more.
 * @param activation A number of bn2d_activation; BN2D_ACT_NONE: a plain forward.
 * @param slope As in bn2d_forward_act().
 * @param[out] y As many elements; may be x or z. Borrowed by the record where that needs it.
 * @param[out] record As in bn2d_forward_f32(); NULL: nothing is recorded.
 * @return as bn2d_forward_act(); BN2D_ERROR_INVALID_ARGUMENT for an unknown layout. Threads: as
 *   bn2d_forward_f32(). Since 1.1.
 */
BN2D_API int32_t bn2d_forward_flat(bn2d_module *module, int32_t dtype, int32_t layout,
                                   const void *x, const void *z, int64_t n, int64_t h, int64_t w,
                                   int32_t activation, double slope, void *y, bn2d_record **record);
/**
 * As bn2d_backward(), of contiguous tensors, of the shape of the recorded x.
 * @param module The module that recorded.
 * @param record From a forward of *this* module.
 * @param dtype,layout Of dy, dx and dz. The dtype is that of the recorded x; the layout may be
 *   another.
 * @param[in] dy Gradient of y.
 * @param[out] dx Gradient of x; NULL: not wanted.
 * @param[out] dz Gradient of z; NULL: not wanted.
 * @return as bn2d_backward(). Threads: exclusive. Since 1.1.
 */
BN2D_API int32_t bn2d_backward_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                                    int32_t layout, const void *dy, void *dx, void *dz);
/**
 * As bn2d_double_backward(), of contiguous tensors, of the shape of the recorded x.
 * @param module The module that recorded.
 * @param record From a forward of *this* module.
 * @param dtype,layout Of dy, ddx, ddy and dx.
 * @param[in] dy As given to backward.
 * @param[in] ddx,ddweight,ddbias Gradients with respect to dx, dweight and dbias; each NULL: zero.
 * @param[out] ddy,dx With respect to dy and x; each NULL: not wanted. ddy may be exactly dy. Those
 *   of a residual take a bn2d_view: bn2d_double_backward_act().
 * @return as bn2d_double_backward(). Threads: exclusive. Since 1.1.
 */
BN2D_API int32_t bn2d_double_backward_flat(bn2d_module *module, const bn2d_record *record,
                                           int32_t dtype, int32_t layout, const void *dy,
                                           const void *ddx, const void *ddweight,
                                           const void *ddbias, void *ddy, void *dx);
/**
 * As bn2d_batch_norm_forward(), of contiguous tensors (n, c, h, w).
 * @param data_dtype,layout Of x, z and y.
 * @param n,c,h,w Extents, 0 or more.
 * @param[in] x n*c*h*w elements.
 * @param[in] z As many; NULL: no residual.
 * @param[out] y As many.
 * @param param_dtype Of weight, bias, running_mean and running_var.
 * @param num_features Elements of every per-channel array. It must be c: arrays of another length
 *   are an error here.
 * @param[in] weight,bias num_features elements each; NULL: 1 and 0.
 * @param[in,out] running_mean,running_var num_features elements each. With batch statistics:
 *   updated in place, each may be NULL. Without: read, required.
 * @param batch_stats 1: statistics of the batch; 0: the running ones.
 * @param averaging_factor Weight of the new value in [0, 1].
 * @param eps Added to the variance, finite and not negative.
 * @param flags Bits of bn2d_flag.
 * @param activation One of bn2d_activation.
 * @param slope As in bn2d_forward_act().
 * @param[out] mask bn2d_mask_nbytes() bytes; NULL: not wanted. Only with BN2D_ACT_RELU and
 *   BN2D_ACT_LEAKY_RELU.
 * @param[out] saved_mean,saved_invstd num_features doubles each, what was used; each may be NULL.
 * @return as bn2d_batch_norm_forward(); BN2D_ERROR_SHAPE where num_features is not c. Threads:
 *   free. Since 1.1.
 */
BN2D_API int32_t bn2d_batch_norm_forward_flat(
    int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x,
    const void *z, void *y, int32_t param_dtype, int64_t num_features, const void *weight,
    const void *bias, void *running_mean, void *running_var, int32_t batch_stats,
    double averaging_factor, double eps, int32_t flags, int32_t activation, double slope,
    uint8_t *mask, double *saved_mean, double *saved_invstd);
/**
 * As bn2d_batch_norm_backward(), of contiguous tensors (n, c, h, w).
 * @param data_dtype,layout Of x, dy, y, dx and dz.
 * @param n,c,h,w Extents, 0 or more.
 * @param[in] x As given to forward. NULL where nothing needs it: batch_stats 0 and no dweight.
 * @param[in] dy Gradient of y.
 * @param[in] y Output of forward; NULL where mask is given or there is no activation.
 * @param[in] mask From forward; NULL where y is given or there is no activation.
 * @param param_dtype Of weight, dweight and dbias.
 * @param num_features Elements of every per-channel array. It must be c: arrays of another length
 *   are an error here.
 * @param[in] weight num_features elements; NULL: 1.
 * @param[in] saved_mean From forward. NULL where x may be.
 * @param[in] saved_invstd From forward.
 * @param batch_stats As given to forward.
 * @param activation One of bn2d_activation.
 * @param slope As given to forward.
 * @param blend As in bn2d_batch_norm_backward().
 * @param[out] dx,dz,dweight,dbias Each NULL: not wanted, not computed.
 * @return as bn2d_batch_norm_backward(); BN2D_ERROR_SHAPE where num_features is not c. Threads:
 *   free. Since 1.1.
 */
BN2D_API int32_t bn2d_batch_norm_backward_flat(
    int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x,
    const void *dy, const void *y, const uint8_t *mask, int32_t param_dtype, int64_t num_features,
    const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats,
    int32_t activation, double slope, double blend, void *dx, void *dz, void *dweight, void *dbias);
/**
 * As bn2d_tensor_copy_from(), of a contiguous array.
 * @param tensor Receives the elements.
 * @param dtype Of data.
 * @param[in] data `length` elements; for num_batches_tracked one.
 * @param length Elements of data; that of the tensor.
 * @return as bn2d_tensor_copy_from(). Threads: as bn2d_tensor_copy_from(). Since 1.1.
 */
BN2D_API int32_t bn2d_tensor_copy_from_flat(bn2d_tensor *tensor, int32_t dtype, const void *data,
                                            int64_t length);
/**
 * As bn2d_tensor_copy_to(), of a contiguous array.
 * @param tensor What is copied.
 * @param dtype Of data.
 * @param[out] data `length` elements; for num_batches_tracked one.
 * @param length Elements of data; that of the tensor.
 * @return as bn2d_tensor_copy_to(). Threads: as bn2d_tensor_copy_from(). Since 1.1.
 */
BN2D_API int32_t bn2d_tensor_copy_to_flat(const bn2d_tensor *tensor, int32_t dtype, void *data,
                                          int64_t length);

/* ------------------------------------------------------------------------------ the host's threads
 *
 * By default oneTBB runs the workers of a call. A host that has threads of its own should say so:
 * two pools in one process wake up onto the same cores, and each waits for the other. The results
 * are the same bits with any pool.
 *
 * A host that computes with OpenMP (GCC's libgomp, LLVM's libomp, Intel's libiomp5; PyTorch is one)
 * needs one line:
 *
 *     bn2d_set_thread_pool(BN2D_POOL_OPENMP);
 *
 * A host with a pool of its own gives a function. This one runs everything on one thread, in
 * reverse:
 *
 *     void run(void *user, int32_t workers, bn2d_work work, void *context) {
 *       for (int32_t w = workers - 1; w >= 0; --w) work(context, w);
 *     }
 *     bn2d_set_host_thread_pool(run, NULL, 8);
 */

/**
 * One worker's part of a call. Comes from bn2d; the host's pool calls it with the context it was
 * given.
 */
typedef void (*bn2d_work)(void *context, int32_t worker);
/**
 * A host's pool: calls work(context, w) once for each w in [0, workers), on any of its threads, in
 * any order, as many at once as it likes, and returns when all these calls have returned. Workers
 * that it leaves out run on the calling thread afterwards. It is called on the thread that called
 * bn2d, several times during one call. It must not throw, end the thread, or call bn2d with a
 * module that the outer call uses. It leaves the floating-point mode of the thread that called it
 * (rounding, flush-to-zero) alone, or puts it back before it returns. Its own threads may have any
 * mode: bn2d sets that of the caller for each work, and puts theirs back.
 * @param user What the host gave together with the function.
 * @param workers How many calls of work are asked for, 1 or more.
 * @param work The function to call.
 * @param context Passed on to work.
 */
typedef void (*bn2d_run_workers)(void *user, int32_t workers, bn2d_work work, void *context);

/**
 * Chooses the thread pool of the process, for calls that begin from now on.
 * @param kind BN2D_POOL_TBB, BN2D_POOL_OPENMP, or BN2D_POOL_DEFAULT; a host's function has
 *   bn2d_set_host_thread_pool(). OpenMP: calls use as many threads as omp_get_max_threads() tells
 *   on the calling thread, and one inside a parallel region. The runtime stays loaded from then on.
 * @return BN2D_OK; BN2D_ERROR_NOT_FOUND where no OpenMP runtime is loaded;
 *   BN2D_ERROR_INVALID_ARGUMENT. Threads: free. Since 1.1.
 */
BN2D_API int32_t bn2d_set_thread_pool(int32_t kind);
/**
 * Makes a function of the host the thread pool of the process, for calls that begin from now on.
 * @param run The function. It must stay valid: another thread may be in a call that uses it, also
 *   after another pool was chosen.
 * @param user Passed on to run; may be NULL. What it points to must stay valid, too.
 * @param threads The most threads that run at once, 1 or more: how many workers a call is cut into,
 *   512 at most.
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT. Threads: free. Since 1.1.
 */
BN2D_API int32_t bn2d_set_host_thread_pool(bn2d_run_workers run, void *user, int32_t threads);
/**
 * The kind of the thread pool of the process, a number of bn2d_thread_pool. Threads: free.
 * Since 1.1.
 */
BN2D_API int32_t bn2d_get_thread_pool(void);
/**
 * As bn2d_set_thread_pool(), for the calls of one module. BN2D_POOL_DEFAULT: that of the process.
 * @return as bn2d_set_thread_pool(). Threads: exclusive. Since 1.1.
 */
BN2D_API int32_t bn2d_module_set_thread_pool(bn2d_module *module, int32_t kind);
/**
 * As bn2d_set_host_thread_pool(), for the calls of one module.
 * @return as bn2d_set_host_thread_pool(). Threads: exclusive. Since 1.1.
 */
BN2D_API int32_t bn2d_module_set_host_thread_pool(bn2d_module *module, bn2d_run_workers run,
                                                  void *user, int32_t threads);
/**
 * The kind of the thread pool of a module; BN2D_POOL_DEFAULT where it has none of its own.
 * @return BN2D_OK. Threads: free. Since 1.1.
 */
BN2D_API int32_t bn2d_module_get_thread_pool(const bn2d_module *module, int32_t *out);

/* ------------------------------------------------------------ for what is built on this library */

/**
 * Sets what bn2d_last_error() tells on this thread: for libraries on top of this one, so that their
 * callers ask in one place. Only what fits is kept, in whole characters, and a byte that does not
 * belong in a line becomes a "?".
 * @param status The status that the caller is going to return.
 * @param[in] text The message.
 * @return `status` as it came, whatever it is. BN2D_ERROR_INVALID_ARGUMENT where text is NULL;
 * bn2d_last_error() then tells that. Threads: free (each thread has its own). Since 1.2.
 */
BN2D_API int32_t bn2d_set_last_error(int32_t status, const char *text);
/**
 * Keeps others out of a module until bn2d_module_unlock(): for a host that reads or writes its
 * tensors through bn2d_tensor_data(), and for work on several modules that is to happen as a whole.
 * It never waits. While a module is locked, calls that the lock excludes return BN2D_ERROR_BUSY on
 * every thread, that of the lock included. What is documented as *free* still works, and so do the
 * tensors' own functions. A child of fork() finds the module unlocked.
 * @param[in] module A module.
 * @param exclusive 1: nobody else may use the module. 0: *shared* calls and further locks of this
 * kind may.
 * @return BN2D_OK, BN2D_ERROR_BUSY, BN2D_ERROR_INVALID_ARGUMENT; BN2D_ERROR_OVERFLOW for more than
 * 2^32 - 2 at a time. Threads: free. Since 1.2.
 */
BN2D_API int32_t bn2d_module_try_lock(bn2d_module *module, int32_t exclusive);
/**
 * Ends one lock of bn2d_module_try_lock(), on any thread.
 * @param[in] module A module.
 * @param exclusive As it was locked.
 * @return BN2D_OK, BN2D_ERROR_STATE where there is no such lock, BN2D_ERROR_INVALID_ARGUMENT.
 * Threads: free. Since 1.2.
 */
BN2D_API int32_t bn2d_module_unlock(bn2d_module *module, int32_t exclusive);
/**
 * The module's eval mode as a map of each channel, y = scale*x + shift, for hosts that fold or fuse
 * it themselves: scale = weight/sqrt(running_var + eps), shift = bias - running_mean*scale,
 * whatever the present mode. Computed in double and rounded once: scale within 3 ulp, and shift
 * within 3 ulp of |bias| + |running_mean*scale|, for float64; otherwise half an ulp (rarely, for a
 * value halfway between two, the other one). For |running_mean| far larger than the standard
 * deviation, y from a rounded scale and shift is less accurate than that of bn2d_forward(), which
 * subtracts the mean first.
 * @param[in] module A module.
 * @param dtype One of bn2d_dtype, floating: of scale and shift.
 * @param[out] scale `length` elements; NULL: not wanted.
 * @param[out] shift `length` elements; NULL: not wanted.
 * @param length The module's num_features.
 * @return BN2D_OK, BN2D_ERROR_STATE (no running statistics), BN2D_ERROR_DTYPE, BN2D_ERROR_SHAPE
 * (length), BN2D_ERROR_LAYOUT (not aligned), BN2D_ERROR_OVERFLOW, BN2D_ERROR_OVERLAP (scale, shift
 * and the module's tensors), BN2D_ERROR_BUSY. Threads: shared. Since 1.2.
 */
BN2D_API int32_t bn2d_module_scale_shift(const bn2d_module *module, int32_t dtype, void *scale,
                                         void *shift, int64_t length);

/* -------------------------------------------------------------------------- on a living module */

/**
 * Changes the momentum: for schedules, and for averages over weights. What bn2d_module_momentum()
 * and bn2d_module_repr() tell follows.
 * @param module A module.
 * @param momentum In [0, 1].
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_STATE (a group norm has none),
 *   BN2D_ERROR_BUSY. Threads: exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_module_set_momentum(bn2d_module *module, double momentum);
/**
 * No momentum from now on: the cumulative average, which goes on from num_batches_tracked. @return
 * BN2D_OK, BN2D_ERROR_STATE (a group norm), BN2D_ERROR_BUSY. Threads: exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_module_set_momentum_none(bn2d_module *module);
/**
 * Freezes the statistics (1), or lets them go (0, as a new module is). A frozen module uses its
 * running statistics in training mode, too, and updates neither them nor the counter; backward is
 * that of eval mode. Parameters still get gradients. bn2d_module_train() leaves it frozen.
 * @param module A module.
 * @param frozen 0 or 1.
 * @return BN2D_OK, BN2D_ERROR_STATE (1, and no running statistics), BN2D_ERROR_INVALID_ARGUMENT,
 *   BN2D_ERROR_BUSY. Threads: exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_module_set_frozen(bn2d_module *module, int32_t frozen);
/** 1 where the statistics are frozen. @return BN2D_OK. Threads: free. Since 1.3. */
BN2D_API int32_t bn2d_module_is_frozen(const bn2d_module *module, int32_t *out);

/* ---------------------------------------------------------------------- statistics from outside
 *
 * Forward and backward split where statistics are known, so that the host may look at them, combine
 * and send them: a batch that lies on several processes or comes in pieces, a convolution whose
 * output is still in cache, a whole data set.
 *
 *     bn2d_statistics *s = NULL;
 *     bn2d_statistics_create(64, &s);
 *     for (int i = 0; i < pieces; ++i) bn2d_statistics_accumulate(s, &piece[i]);
 *     bn2d_forward_with_statistics(bn, s, &x, NULL, BN2D_ACT_NONE, 0, &y, &record);
 *
 *     bn2d_backward_sums(bn, record, &dy, sums, 2 * 64);  // adds to weight.grad and bias.grad
 *     // ... here the sums of the other parts are added, element by element ...
 *     bn2d_backward_with_sums(bn, record, &dy, sums, 2 * 64, &dx, NULL);
 *
 * Between processes, bn2d_statistics_export() makes the array that travels, and
 * bn2d_statistics_merge_exported() takes in those of all processes, each in the same order.
 * bn2d/mpi.h does all this for MPI, one call each way.
 *
 *  - Each forward of a module moves its running statistics, also one with given statistics. Where
 *    one process normalises a batch in parts with one module, only one part should: the others are
 *    for a second module with the same weights, or run with a momentum of 0. num_batches_tracked
 *    counts these forwards, too: with a cumulative average use the second module.
 *  - Statistics are sums of the same kernels as those of a forward, with the same accuracy. One
 *    bn2d_statistics_accumulate() of x and a forward with that give the bits of a plain forward.
 *    In other pieces the last bits differ; the same pieces in the same order give the same bits.
 *    A backward in two steps is as accurate as a plain one, but may differ from it in last bits.
 *  - They are pairs of doubles. float64 data whose squared deviations leave the range of double, or
 *    products of deviation and gradient in backward, are beyond them.
 */

/**
 * New statistics, of no values.
 * @param num_features Number of channels C, 1 or more.
 * @param[out] out The statistics; give back with bn2d_statistics_release().
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_create(int64_t num_features, bn2d_statistics **out);
/** One more reference. @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.3. */
BN2D_API int32_t bn2d_statistics_retain(bn2d_statistics *statistics);
/** Gives one reference back; NULL is allowed. Threads: free. Since 1.3. */
BN2D_API void bn2d_statistics_release(bn2d_statistics *statistics);
/**
 * Adds the values of a tensor. Dtypes may be mixed. Works on the threads of the process, as a
 * forward does.
 * @param statistics What they are added to.
 * @param[in] x (N, C, H, W) of any floating dtype and layout; without elements nothing happens.
 * @return BN2D_OK, BN2D_ERROR_SHAPE (other channels), BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE,
 *   BN2D_ERROR_LAYOUT, BN2D_ERROR_OVERFLOW (also: more than 2^53 values of a channel). Threads: one
 *   per object. Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_accumulate(bn2d_statistics *statistics, const bn2d_view *x);
/**
 * As bn2d_statistics_accumulate(), of a contiguous tensor.
 * @param statistics What they are added to.
 * @param dtype,layout Of x: one of bn2d_dtype, one of bn2d_layout.
 * @param[in] x (n, C, h, w) elements.
 * @param n,h,w Extents, 0 or more.
 * @return as bn2d_statistics_accumulate(), and BN2D_ERROR_INVALID_ARGUMENT for an unknown layout.
 *   Threads: one per object. Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_accumulate_flat(bn2d_statistics *statistics, int32_t dtype,
                                                 int32_t layout, const void *x, int64_t n,
                                                 int64_t h, int64_t w);
/**
 * Adds the values of other statistics, which stay as they are.
 * @param statistics What they are added to.
 * @param other Of as many channels.
 * @return BN2D_OK, BN2D_ERROR_SHAPE (other channels), BN2D_ERROR_OVERFLOW (more than 2^53 values).
 *   Threads: one per object. Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_merge(bn2d_statistics *statistics, const bn2d_statistics *other);
/** Forgets all values. @return BN2D_OK. Threads: one per object. Since 1.3. */
BN2D_API int32_t bn2d_statistics_reset(bn2d_statistics *statistics);
/** Values of each channel. @return BN2D_OK. Threads: one per object. Since 1.3. */
BN2D_API int32_t bn2d_statistics_count(const bn2d_statistics *statistics, int64_t *out);
/**
 * Mean and biased variance, rounded to double.
 * @param statistics Of one value or more.
 * @param[out] mean,var `length` doubles each; NULL: not wanted.
 * @param length The number of channels.
 * @return BN2D_OK, BN2D_ERROR_SHAPE (length), BN2D_ERROR_TOO_FEW_VALUES (none),
 *   BN2D_ERROR_LAYOUT (not aligned), BN2D_ERROR_OVERFLOW, BN2D_ERROR_OVERLAP (mean and var).
 *   Threads: one per object. Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_mean_var(const bn2d_statistics *statistics, double *mean,
                                          double *var, int64_t length);
/**
 * Doubles that bn2d_statistics_export() writes: 1 + 4*C. @return BN2D_OK. Threads: free.
 * Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_export_length(const bn2d_statistics *statistics, int64_t *out);
/**
 * Writes the statistics down: the count; then C doubles each of the means, their low parts, the
 * sums of squared deviations, and their low parts. A number is the sum of its two parts.
 * @param statistics What is written down.
 * @param[out] values `length` doubles.
 * @param length 1 + 4*C.
 * @return BN2D_OK, BN2D_ERROR_SHAPE (length), BN2D_ERROR_LAYOUT (not aligned),
 *   BN2D_ERROR_OVERFLOW. Threads: one per object. Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_export(const bn2d_statistics *statistics, double *values,
                                        int64_t length);
/**
 * As bn2d_statistics_merge(), of statistics that were written down, here or in another process.
 * Merged into statistics of no values, they are the same bits again. Means and squares may be
 * infinite or NaN, as those of such data are.
 * @param statistics What they are added to.
 * @param[in] values `length` doubles from bn2d_statistics_export().
 * @param length 1 + 4*C.
 * @return BN2D_OK, BN2D_ERROR_SHAPE (length), BN2D_ERROR_INVALID_ARGUMENT (the count is not a whole
 *   number from 0 to 2^53, or of some values a square is negative), BN2D_ERROR_LAYOUT (not
 *   aligned), BN2D_ERROR_OVERFLOW (more than 2^53 values). Threads: one per object. Since 1.3.
 */
BN2D_API int32_t bn2d_statistics_merge_exported(bn2d_statistics *statistics, const double *values,
                                                int64_t length);
/**
 * As bn2d_forward_act() on batch statistics, with these statistics in place of those of x: nothing
 * is summed, and with large planes the call takes as long as one in eval mode. Running statistics
 * (the variance unbiased by the statistics' count) and counter move, even where x has no elements.
 * @param module A module whose forward uses batch statistics.
 * @param statistics Of two values or more. NULL: the call only checks all else, before anything is
 *   sent to other processes, and writes nothing.
 * @param[in] x Data of any layout. Borrowed by the record.
 * @param[in] z NULL: no residual. Borrowed by the record of a pointwise activation.
 * @param activation One of bn2d_activation.
 * @param slope As in bn2d_forward_act().
 * @param[out] y Borrowed by the record where that needs it.
 * @param[out] record As in bn2d_forward_f32(); NULL: nothing is recorded. bn2d_backward() sums over
 *   the dy that it is given, and knows nothing of other parts of the batch. Where these have
 *   gradients, too, backward is bn2d_backward_sums() and bn2d_backward_with_sums().
 *   bn2d_double_backward() is BN2D_ERROR_STATE.
 * @return as bn2d_forward_act(), and BN2D_ERROR_STATE in eval mode and of a frozen module, whose
 *   statistics are the running ones, and of a ghost batch, group or instance norm. Threads:
 *   exclusive; of the statistics, one per object. Since 1.3.
 */
BN2D_API int32_t bn2d_forward_with_statistics(bn2d_module *module,
                                              const bn2d_statistics *statistics, const bn2d_view *x,
                                              const bn2d_view *z, int32_t activation, double slope,
                                              const bn2d_view *y, bn2d_record **record);
/**
 * As bn2d_forward_with_statistics(), of contiguous tensors.
 * @param module A module whose forward uses batch statistics.
 * @param statistics Of two values or more. NULL: the call only checks.
 * @param dtype,layout Of x, z and y: one of bn2d_dtype, one of bn2d_layout.
 * @param[in] x (n, num_features, h, w) elements. Borrowed by the record.
 * @param[in] z As many; NULL: no residual. Borrowed by the record of a pointwise activation.
 * @param n,h,w Extents, 0 or more.
 * @param activation One of bn2d_activation.
 * @param slope As in bn2d_forward_act().
 * @param[out] y As many elements; may be x or z. Borrowed by the record where that needs it.
 * @param[out] record As in bn2d_forward_with_statistics(); NULL: nothing is recorded.
 * @return as bn2d_forward_with_statistics(). Threads: exclusive; of the statistics, one per object.
 *   Since 1.3.
 */
BN2D_API int32_t bn2d_forward_with_statistics_flat(bn2d_module *module,
                                                   const bn2d_statistics *statistics, int32_t dtype,
                                                   int32_t layout, const void *x, const void *z,
                                                   int64_t n, int64_t h, int64_t w,
                                                   int32_t activation, double slope, void *y,
                                                   bn2d_record **record);
/**
 * 1 where the forward was on batch statistics, its own or from outside; 0 where it was on running
 * ones, whose backward has no sums. @return BN2D_OK. Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_record_batch_statistics(const bn2d_record *record, int32_t *out);
/**
 * First step of a backward in two: the sums of this part of the batch. Accumulates its share of the
 * gradients of weight and bias where they require one; the host adds up those of all parts, as it
 * does with the gradients of other layers.
 * @param module The module that recorded.
 * @param record From a forward of *this* module on batch statistics, its own or from outside.
 * @param[in] dy Gradient of y.
 * @param[out] sums `length` doubles: C sums of g, dy through the activation, then C sums of
 *   g*(x - mean). Those of several parts are added element by element; the same order gives the
 *   same bits.
 * @param length 2*C.
 * @return as bn2d_backward(), and BN2D_ERROR_STATE (a record on running statistics; a ghost batch,
 *   group or instance norm), BN2D_ERROR_SHAPE (length). Threads: exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_backward_sums(bn2d_module *module, const bn2d_record *record,
                                    const bn2d_view *dy, double *sums, int64_t length);
/**
 * As bn2d_backward_sums(), of a contiguous tensor of the shape of the recorded x.
 * @param module The module that recorded.
 * @param record From a forward of *this* module on batch statistics.
 * @param dtype,layout Of dy. The dtype is that of the recorded x.
 * @param[in] dy Gradient of y.
 * @param[out] sums `length` doubles.
 * @param length 2*C.
 * @return as bn2d_backward_sums(), and BN2D_ERROR_INVALID_ARGUMENT for an unknown layout. Threads:
 *   exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_backward_sums_flat(bn2d_module *module, const bn2d_record *record,
                                         int32_t dtype, int32_t layout, const void *dy,
                                         double *sums, int64_t length);
/**
 * Second step of a backward in two: dx and dz from the sums of the whole batch, which has as many
 * values as the statistics of the forward. Gradients of parameters stay as they are.
 * @param module The module that recorded.
 * @param record As given to bn2d_backward_sums().
 * @param[in] dy As given to bn2d_backward_sums().
 * @param[in] sums `length` doubles: the sums of all parts. NULL: the call only checks, for both
 *   steps, before the first of them, and writes nothing.
 * @param length 2*C.
 * @param[out] dx Gradient of x, or NULL: not wanted. May be exactly dy.
 * @param[out] dz Gradient of z, or NULL: not wanted. May be exactly dy.
 * @return as bn2d_backward_sums(). Threads: exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_backward_with_sums(bn2d_module *module, const bn2d_record *record,
                                         const bn2d_view *dy, const double *sums, int64_t length,
                                         const bn2d_view *dx, const bn2d_view *dz);
/**
 * As bn2d_backward_with_sums(), of contiguous tensors of the shape of the recorded x.
 * @param module The module that recorded.
 * @param record As given to bn2d_backward_sums().
 * @param dtype,layout Of dy, dx and dz. The dtype is that of the recorded x.
 * @param[in] dy As given to bn2d_backward_sums().
 * @param[in] sums `length` doubles: the sums of all parts. NULL: the call only checks.
 * @param length 2*C.
 * @param[out] dx Gradient of x; NULL: not wanted.
 * @param[out] dz Gradient of z; NULL: not wanted.
 * @return as bn2d_backward_sums_flat(). Threads: exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_backward_with_sums_flat(bn2d_module *module, const bn2d_record *record,
                                              int32_t dtype, int32_t layout, const void *dy,
                                              const double *sums, int64_t length, void *dx,
                                              void *dz);
/**
 * Sets running_mean and running_var to those of the statistics: "precise batch norm", where they
 * are those of a data set. The variance is unbiased, or biased where the module's option says so.
 * Counter and momentum stay. As in training, a variance that the module's dtype cannot hold is
 * stored as infinity, unless the module's option protects its running statistics: then a channel
 * keeps those it has.
 * @param module A module with running statistics.
 * @param statistics Of two values or more; of one, where the variance is biased.
 * @return BN2D_OK, BN2D_ERROR_STATE (no running statistics; an instance norm, whose own are
 *   averages over samples), BN2D_ERROR_SHAPE (other channels), BN2D_ERROR_TOO_FEW_VALUES,
 *   BN2D_ERROR_BUSY. Threads: exclusive; of the statistics, one per
 *   object. Since 1.3.
 */
BN2D_API int32_t bn2d_module_set_running_stats(bn2d_module *module,
                                               const bn2d_statistics *statistics);

/* ------------------------------------------------------------------------- group, instance, ghost
 *
 * The other norms over (N, C, H, W) are modules like that of bn2d_module_create(), and functions
 * that take one work with them: forward and backward of any dtype and layout, fused activation and
 * residual, records, gradients of gradients, parameters, bn2d_module_num_features() = C. What is
 * about running statistics (momentum, freezing, folding) is BN2D_ERROR_STATE where there are none.
 *
 *     norm             statistics of                       running statistics   affine
 *     batch            a channel of the whole batch        yes                  yes
 *     ghost batch      a channel of every V samples        yes                  yes
 *     instance         a channel of one sample             on request           on request
 *     group            C/G channels of one sample          no                   yes
 *     layer (C,H,W)    as group with G = 1
 *
 *     bn2d_module *gn = NULL;
 *     bn2d_group_norm_create(32, 256, NULL, &gn);
 *     bn2d_forward_f32(gn, x, n, h, w, y, &record);
 *     bn2d_backward_f32(gn, record, dy, dx);
 *
 * With m values that have their statistics in common:
 *   mean = sum(x)/m, var = sum((x - mean)^2)/m, xhat = (x - mean)/sqrt(var + eps),
 *   y = weight[c]*xhat + bias[c]. Gradients of weight and bias are sums over all samples.
 * Accuracy, threads and bits are those of batch norm. Group norm of float and half data sums sets
 * as a whole in forward, where planes have at most 100 elements and x has at most 16 MiB. Without
 * an activation and with planes of at most 16 elements, x may be larger, and backward does the
 * same, but for one that has to write dz. Otherwise each channel of each sample has sums of its
 * own, which cost 15 to 75 ns beside its elements. (4096,256,1,1) in 32 groups takes a third of
 * PyTorch's time in forward (`bn2d_bench --filter '^norms/.*4096x256'`). Statistics from outside
 * are for batch norm without ghost batches alone: other modules return BN2D_ERROR_STATE. An option
 * that was not set takes the default of the norm that is created.
 */

/** What is normalised together. */
enum bn2d_norm {
  BN2D_NORM_BATCH = 1,   /**< a channel of the batch, or of ghost batches */
  BN2D_NORM_GROUP = 2,   /**< some channels of a sample */
  BN2D_NORM_INSTANCE = 3 /**< a channel of a sample */
};

/**
 * Ghost batches: in training, every `samples` samples of a batch norm are normalised on their own,
 * the last set may have fewer. The running statistics and the counter move once for each set, in
 * order, as a loop over the sets would move them; an empty batch is one empty set: the counter
 * moves by 1, as that of batch norm. Eval mode is that of batch norm. 0, the default: the whole
 * batch.
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT where it is negative. A forward whose last set would
 *   have one value of each channel returns BN2D_ERROR_TOO_FEW_VALUES. Threads: one per object.
 *   Since 1.3.
 */
BN2D_API int32_t bn2d_options_set_ghost_batch_size(bn2d_options *options, int64_t samples);
/**
 * New group norm: the statistics of num_channels/num_groups channels of a sample. There are no
 * running statistics, and training and eval mode compute the same; but a forward in training mode
 * needs the module alone, in eval mode any number run at once. One value alone gives y = bias and
 * dx = 0.
 * @param num_groups 1 or more; 1 is a layer norm over (C, H, W).
 * @param num_channels C, a multiple of num_groups.
 * @param options NULL for the defaults (eps 1e-5, affine); copied. momentum,
 *   track_running_stats, biased_running_var, protect_running_stats and ghost_batch_size must not be
 *   set, not even to their defaults.
 * @param[out] out The module; give back with bn2d_module_release().
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT (also where num_groups does not divide num_channels:
 *   two numbers; where it does not divide the channels of a tensor, that is BN2D_ERROR_SHAPE),
 *   BN2D_ERROR_OVERFLOW. Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_create(int64_t num_groups, int64_t num_channels,
                                        const bn2d_options *options, bn2d_module **out);
/**
 * New instance norm: the statistics of each channel of each sample.
 * @param num_features C, 1 or more.
 * @param options NULL for the defaults, which are those of PyTorch: eps 1e-5, momentum 0.1, *not*
 *   affine, *no* running statistics; copied. With bn2d_options_set_track_running_stats() the
 * running statistics move by the averages over the samples of mean and unbiased variance, eval mode
 * uses them as a batch norm does, and num_batches_tracked stays 0; without momentum they stay as
 * they are. Ghost batches must not be set.
 * @param[out] out The module; give back with bn2d_module_release(). Its forward returns
 *   BN2D_ERROR_TOO_FEW_VALUES for statistics of one value (H*W = 1).
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_instance_norm_create(int64_t num_features, const bn2d_options *options,
                                           bn2d_module **out);
/** What a module normalises together: a number of bn2d_norm. @return BN2D_OK. Threads: free.
 * Since 1.3. */
BN2D_API int32_t bn2d_module_norm(const bn2d_module *module, int32_t *out);
/** Groups of a group norm; 0: another norm. @return BN2D_OK. Threads: free. Since 1.3. */
BN2D_API int32_t bn2d_module_num_groups(const bn2d_module *module, int64_t *out);
/** Samples of a ghost batch; 0: there are none. @return BN2D_OK. Threads: free. Since 1.3. */
BN2D_API int32_t bn2d_module_ghost_batch_size(const bn2d_module *module, int64_t *out);
/**
 * Stateless group norm. With num_groups = C an instance norm, with 1 a layer norm over (C, H, W).
 * @param[in] x (N, C, H, W).
 * @param[in] z Residual; NULL: none.
 * @param[out] y May be x or z.
 * @param num_groups 1 or more; divides C.
 * @param dtype Of weight and bias: that of the data, or BN2D_F32 with half data.
 * @param[in] weight,bias C elements each; NULL: 1 and 0.
 * @param eps Added to the variance, finite and not negative.
 * @param activation One of bn2d_activation.
 * @param slope As in bn2d_forward_act().
 * @param[out] mask As in bn2d_batch_norm_forward(); NULL: not wanted.
 * @param[out] saved_mean,saved_invstd N*num_groups doubles each, those of sample n and group g at
 *   [n*num_groups + g]; each may be NULL. Without elements nothing is written.
 * @return as bn2d_batch_norm_forward(); BN2D_ERROR_INVALID_ARGUMENT for num_groups below 1,
 *   BN2D_ERROR_SHAPE where it does not divide C. One value alone gives y = bias. Threads: free.
 *   Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_forward(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y,
                                         int64_t num_groups, int32_t dtype, const void *weight,
                                         const void *bias, double eps, int32_t activation,
                                         double slope, uint8_t *mask, double *saved_mean,
                                         double *saved_invstd);
/**
 * Stateless backward of group norm. As bn2d_batch_norm_backward() with batch statistics, and with
 * num_groups and saved statistics as in bn2d_group_norm_forward().
 * @param[in] x As in forward; NULL where neither dx nor dweight is wanted.
 * @param[in] dy Gradient of y.
 * @param[in] y,mask As in bn2d_batch_norm_backward(); each NULL where the other is given or there
 *   is no activation.
 * @param num_groups As in forward.
 * @param dtype Of weight, dweight and dbias.
 * @param[in] weight C elements; NULL: 1.
 * @param[in] saved_mean From forward. NULL where x may be.
 * @param[in] saved_invstd From forward.
 * @param activation,slope As in forward.
 * @param blend b: dweight and dbias become b*old + new; 0: the old values are not read.
 * @param[out] dx,dz Gradients of x and z; each NULL: not wanted. May be dy.
 * @param[in,out] dweight,dbias C elements each; NULL: not wanted.
 * @return as bn2d_batch_norm_backward() and bn2d_group_norm_forward(). Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_backward(const bn2d_view *x, const bn2d_view *dy,
                                          const bn2d_view *y, const uint8_t *mask,
                                          int64_t num_groups, int32_t dtype, const void *weight,
                                          const double *saved_mean, const double *saved_invstd,
                                          int32_t activation, double slope, double blend,
                                          const bn2d_view *dx, const bn2d_view *dz, void *dweight,
                                          void *dbias);
/**
 * Stateless double backward of group norm. As bn2d_batch_norm_double_backward() with batch
 * statistics.
 * @param[in] x,dy As in backward.
 * @param[in] y,mask As in bn2d_batch_norm_backward(); each NULL where the other is given or there
 *   is no activation.
 * @param num_groups As in forward.
 * @param dtype Of weight, ddweight, ddbias and dweight.
 * @param[in] weight C elements; NULL: 1.
 * @param[in] saved_mean,saved_invstd From forward.
 * @param activation,slope As in forward. Pointwise ones: bn2d_group_norm_double_backward_act().
 * @param[in] ddx,ddweight,ddbias Gradients with respect to dx, dweight and dbias; each NULL: zero.
 * @param blend Of dweight, as in backward.
 * @param[out] ddy,dx With respect to dy and x; each NULL: not wanted.
 * @param[in,out] dweight With respect to weight, C elements; NULL: not wanted.
 * @return as bn2d_group_norm_backward(). Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_double_backward(
    const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask,
    int64_t num_groups, int32_t dtype, const void *weight, const double *saved_mean,
    const double *saved_invstd, int32_t activation, double slope, const bn2d_view *ddx,
    const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy,
    const bn2d_view *dx, void *dweight);
/**
 * As bn2d_group_norm_forward(), of contiguous tensors (n, c, h, w).
 * @param data_dtype,layout Of x, z and y.
 * @param n,c,h,w Extents, 0 or more.
 * @param[in] x n*c*h*w elements.
 * @param[in] z As many; NULL: no residual.
 * @param[out] y As many.
 * @param num_groups 1 or more; divides c.
 * @param param_dtype Of weight and bias.
 * @param num_features Elements of every per-channel array. It must be c: arrays of another length
 *   are an error here.
 * @param[in] weight,bias num_features elements each; NULL: 1 and 0.
 * @param eps Added to the variance, finite and not negative.
 * @param activation One of bn2d_activation.
 * @param slope As in bn2d_forward_act().
 * @param[out] mask As in bn2d_batch_norm_forward(); NULL: not wanted.
 * @param[out] saved_mean,saved_invstd n*num_groups doubles each; each may be NULL.
 * @return as bn2d_group_norm_forward(); BN2D_ERROR_SHAPE where num_features is not c. Threads:
 *   free. Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_forward_flat(int32_t data_dtype, int32_t layout, int64_t n,
                                              int64_t c, int64_t h, int64_t w, const void *x,
                                              const void *z, void *y, int64_t num_groups,
                                              int32_t param_dtype, int64_t num_features,
                                              const void *weight, const void *bias, double eps,
                                              int32_t activation, double slope, uint8_t *mask,
                                              double *saved_mean, double *saved_invstd);
/**
 * As bn2d_group_norm_backward(), of contiguous tensors (n, c, h, w).
 * @param data_dtype,layout Of x, dy, y, dx and dz.
 * @param n,c,h,w Extents, 0 or more.
 * @param[in] x As given to forward. NULL where neither dx nor dweight is wanted.
 * @param[in] dy Gradient of y.
 * @param[in] y Output of forward; NULL where mask is given or there is no activation.
 * @param[in] mask From forward; NULL where y is given or there is no activation.
 * @param num_groups As given to forward.
 * @param param_dtype Of weight, dweight and dbias.
 * @param num_features Elements of every per-channel array. It must be c: arrays of another length
 *   are an error here.
 * @param[in] weight num_features elements; NULL: 1.
 * @param[in] saved_mean From forward. NULL where x may be.
 * @param[in] saved_invstd From forward.
 * @param activation One of bn2d_activation.
 * @param slope As given to forward.
 * @param blend As in bn2d_group_norm_backward().
 * @param[out] dx,dz,dweight,dbias Each NULL: not wanted, not computed.
 * @return as bn2d_group_norm_backward(); BN2D_ERROR_SHAPE where num_features is not c. Threads:
 *   free. Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_backward_flat(
    int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x,
    const void *dy, const void *y, const uint8_t *mask, int64_t num_groups, int32_t param_dtype,
    int64_t num_features, const void *weight, const double *saved_mean, const double *saved_invstd,
    int32_t activation, double slope, double blend, void *dx, void *dz, void *dweight, void *dbias);
/**
 * As bn2d_batch_norm_backward(), through any activation: bias and z make the argument of a
 * pointwise one again. Of float data, where there was no z and x is read anyway, x and bias tell
 * the side of the other activations: then y or mask must be given, as forward has written it, but
 * is mostly not read: only in channels of fewer than 256 values and near the ends of the range. The
 * bits are the same, and one tensor less is read. There is no form of this without a bn2d_view: use
 * the backward of a module, bn2d_backward_flat().
 * @param[in] x As given to forward. NULL as in bn2d_batch_norm_backward(); a pointwise activation
 *   always needs it.
 * @param[in] z As given to forward; NULL: there was none.
 * @param[in] dy Gradient of y.
 * @param[in] y,mask As in bn2d_batch_norm_backward(); NULL for a pointwise activation, which does
 *   not read y, and has no mask (BN2D_ERROR_INVALID_ARGUMENT).
 * @param dtype One of bn2d_dtype.
 * @param[in] weight,bias As given to forward. NULL: 1 and 0.
 * @param[in] saved_mean From forward, C doubles. NULL where x may be.
 * @param[in] saved_invstd From forward, C doubles.
 * @param batch_stats As given to forward.
 * @param activation One of bn2d_activation.
 * @param slope As given to forward.
 * @param blend As in bn2d_batch_norm_backward().
 * @param[out] dx,dz,dweight,dbias Each NULL: not wanted, not computed. dx or dz may be dy.
 * @return as bn2d_batch_norm_backward(). Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_batch_norm_backward_act(const bn2d_view *x, const bn2d_view *z,
                                              const bn2d_view *dy, const bn2d_view *y,
                                              const uint8_t *mask, int32_t dtype,
                                              const void *weight, const void *bias,
                                              const double *saved_mean, const double *saved_invstd,
                                              int32_t batch_stats, int32_t activation, double slope,
                                              double blend, const bn2d_view *dx,
                                              const bn2d_view *dz, void *dweight, void *dbias);
/**
 * As bn2d_group_norm_backward(), through any activation: bias and z make the argument of a
 * pointwise one again, or tell its side, as in bn2d_batch_norm_backward_act().
 * @param[in] x As given to forward. NULL as in bn2d_group_norm_backward(); a pointwise activation
 *   always needs it.
 * @param[in] z As given to forward; NULL: there was none.
 * @param[in] dy Gradient of y.
 * @param[in] y,mask As in bn2d_group_norm_backward(); NULL for a pointwise activation, which does
 *   not read y, and has no mask (BN2D_ERROR_INVALID_ARGUMENT).
 * @param num_groups As in forward.
 * @param dtype Of weight, bias, dweight and dbias.
 * @param[in] weight,bias C elements each, as given to forward. NULL: 1 and 0.
 * @param[in] saved_mean From forward. NULL where x may be.
 * @param[in] saved_invstd From forward.
 * @param activation,slope As in forward.
 * @param blend As in bn2d_group_norm_backward().
 * @param[out] dx,dz Gradients of x and z; each NULL: not wanted. May be dy.
 * @param[in,out] dweight,dbias C elements each; NULL: not wanted.
 * @return as bn2d_group_norm_backward(). Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_backward_act(
    const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y,
    const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias,
    const double *saved_mean, const double *saved_invstd, int32_t activation, double slope,
    double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);

/**
 * As bn2d_double_backward(), of a loss that depends on dz, too, with the gradient with respect to
 * the residual z. Of a pointwise activation, and where ddz or dz is given, it goes through whole
 * tensors step by step, which takes several times as long. Its working memory is two to four
 * tensors in the arithmetic type, one more for each input that is not contiguous NCHW or is of half
 * type, and one of half type where such are not contiguous.
 * @param module The module that recorded.
 * @param record From a forward of *this* module.
 * @param[in] dy As given to backward.
 * @param[in] ddx,ddz Gradients of the loss with respect to dx and dz; NULL: zero.
 * @param[in] ddweight,ddbias With respect to dweight and dbias, C elements of the module's dtype;
 *   NULL: zero.
 * @param[out] ddy With respect to dy; NULL: not wanted. May be exactly dy.
 * @param[out] dx,dz With respect to x and z; NULL: not wanted. dz is 0 without an activation, and
 *   through relu, leaky relu, relu6 and clamp, which have no second derivative. With respect to
 *   weight and bias as in bn2d_double_backward().
 * @return as bn2d_double_backward(). Threads: exclusive. Since 1.3.
 */
BN2D_API int32_t bn2d_double_backward_act(bn2d_module *module, const bn2d_record *record,
                                          const bn2d_view *dy, const bn2d_view *ddx,
                                          const bn2d_view *ddz, const void *ddweight,
                                          const void *ddbias, const bn2d_view *ddy,
                                          const bn2d_view *dx, const bn2d_view *dz);
/**
 * Stateless double backward through any activation: as bn2d_batch_norm_double_backward(), with the
 * residual, the time and the working memory of bn2d_double_backward_act().
 * @param[in] x As given to forward; always needed.
 * @param[in] z As given to forward; NULL: there was none. Only a pointwise activation reads it.
 * @param[in] dy Gradient of y.
 * @param[in] y,mask As in bn2d_batch_norm_backward_act(); NULL as there.
 * @param dtype One of bn2d_dtype.
 * @param[in] weight,bias As given to forward. NULL: 1 and 0.
 * @param[in] saved_mean,saved_invstd From forward, C doubles each.
 * @param batch_stats,activation,slope As given to forward.
 * @param[in] ddx,ddz,ddweight,ddbias Gradients with respect to dx, dz, dweight, dbias; each NULL:
 *   zero.
 * @param blend Of dweight and dbias, as in bn2d_batch_norm_backward().
 * @param[out] ddy,dx,dz With respect to dy, x, z; each NULL: not wanted. ddy may be exactly dy.
 * @param[in,out] dweight,dbias With respect to weight and bias; each NULL: not wanted.
 * @return as bn2d_batch_norm_double_backward(). Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_batch_norm_double_backward_act(
    const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y,
    const uint8_t *mask, int32_t dtype, const void *weight, const void *bias,
    const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation,
    double slope, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight,
    const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx,
    const bn2d_view *dz, void *dweight, void *dbias);
/**
 * The same of group norm: as bn2d_group_norm_double_backward(), with the residual, the time and the
 * working memory of bn2d_double_backward_act().
 * @param[in] x As given to forward; always needed.
 * @param[in] z As given to forward; NULL: there was none. Only a pointwise activation reads it.
 * @param[in] dy Gradient of y.
 * @param[in] y,mask As in bn2d_group_norm_backward_act(); NULL as there.
 * @param num_groups As in forward.
 * @param dtype Of all arrays of C elements.
 * @param[in] weight,bias C elements each, as given to forward. NULL: 1 and 0.
 * @param[in] saved_mean,saved_invstd From forward.
 * @param activation,slope As in forward.
 * @param[in] ddx,ddz,ddweight,ddbias Gradients with respect to dx, dz, dweight, dbias; each NULL:
 *   zero.
 * @param blend Of dweight and dbias, as in bn2d_group_norm_backward().
 * @param[out] ddy,dx,dz With respect to dy, x, z; each NULL: not wanted. ddy may be exactly dy.
 * @param[in,out] dweight,dbias With respect to weight and bias, C elements each; NULL: not wanted.
 * @return as bn2d_group_norm_double_backward(). Threads: free. Since 1.3.
 */
BN2D_API int32_t bn2d_group_norm_double_backward_act(
    const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y,
    const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias,
    const double *saved_mean, const double *saved_invstd, int32_t activation, double slope,
    const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias,
    double blend, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz, void *dweight,
    void *dbias);

/* --------------------------------------------------------------------------------------- plugin */

/**
 * All functions above as a table, for hosts that dlopen the library: one symbol to look up,
 * bn2d_get_api(). Slots are only ever appended; `size` tells how many bytes this library knows.
 */
typedef struct bn2d_api {
  uint64_t size;        /**< sizeof(bn2d_api) of the library. */
  uint32_t api_version; /**< BN2D_API_VERSION of the library. */
  uint32_t reserved;    /**< 0 */
  uint32_t (*version)(void);
  const char *(*version_string)(void);
  const char *(*build_info)(void);
  const char *(*simd_target)(void);
  const char *(*last_error)(void);
  const char *(*status_name)(int32_t status);
  const char *(*dtype_name)(int32_t dtype);
  uint64_t (*dtype_size)(int32_t dtype);
  int32_t (*dtype_from_name)(const char *name, int32_t *out);
  int32_t (*constant_count)(void);
  int32_t (*constant_at)(int32_t index, const char **out_name, int64_t *out_value);
  int32_t (*constant_by_name)(const char *name, int64_t *out_value);
  int32_t (*set_num_threads)(int32_t threads);
  int32_t (*get_num_threads)(void);
  int32_t (*set_streaming_threshold)(int64_t bytes);
  int64_t (*get_streaming_threshold)(void);
  int32_t (*options_create)(bn2d_options **out);
  int32_t (*options_retain)(bn2d_options *options);
  void (*options_release)(bn2d_options *options);
  int32_t (*options_set_eps)(bn2d_options *options, double eps);
  int32_t (*options_set_momentum)(bn2d_options *options, double momentum);
  int32_t (*options_set_momentum_none)(bn2d_options *options);
  int32_t (*options_set_affine)(bn2d_options *options, int32_t affine);
  int32_t (*options_set_bias)(bn2d_options *options, int32_t bias);
  int32_t (*options_set_track_running_stats)(bn2d_options *options, int32_t track);
  int32_t (*options_set_device)(bn2d_options *options, int32_t device_type, int32_t device_id);
  int32_t (*options_set_dtype)(bn2d_options *options, int32_t dtype);
  int32_t (*options_set_biased_running_var)(bn2d_options *options, int32_t biased);
  int32_t (*options_set_protect_running_stats)(bn2d_options *options, int32_t protect);
  int32_t (*options_set_num_threads)(bn2d_options *options, int32_t threads);
  int32_t (*options_set_by_name)(bn2d_options *options, const char *name, const char *value);
  int32_t (*module_create)(int64_t num_features, const bn2d_options *options, bn2d_module **out);
  int32_t (*module_retain)(bn2d_module *module);
  void (*module_release)(bn2d_module *module);
  int32_t (*module_train)(bn2d_module *module, int32_t training);
  int32_t (*module_eval)(bn2d_module *module);
  int32_t (*module_is_training)(const bn2d_module *module, int32_t *out);
  int32_t (*module_num_features)(const bn2d_module *module, int64_t *out);
  int32_t (*module_eps)(const bn2d_module *module, double *out);
  int32_t (*module_momentum)(const bn2d_module *module, int32_t *out_has, double *out);
  int32_t (*module_affine)(const bn2d_module *module, int32_t *out);
  int32_t (*module_track_running_stats)(const bn2d_module *module, int32_t *out);
  int32_t (*module_dtype)(const bn2d_module *module, int32_t *out);
  int32_t (*module_device)(const bn2d_module *module, int32_t *out_type, int32_t *out_id);
  int32_t (*module_set_num_threads)(bn2d_module *module, int32_t threads);
  int32_t (*module_get_num_threads)(const bn2d_module *module, int32_t *out);
  int32_t (*module_repr)(const bn2d_module *module, char *buffer, uint64_t capacity,
                         uint64_t *length);
  int32_t (*module_reset_running_stats)(bn2d_module *module);
  int32_t (*module_reset_parameters)(bn2d_module *module);
  int32_t (*module_zero_grad)(bn2d_module *module);
  int32_t (*module_tensor_count)(const bn2d_module *module, int32_t *out);
  int32_t (*module_tensor_at)(const bn2d_module *module, int32_t index, bn2d_tensor **out);
  int32_t (*module_tensor_by_name)(const bn2d_module *module, const char *name, bn2d_tensor **out);
  int32_t (*tensor_retain)(bn2d_tensor *tensor);
  void (*tensor_release)(bn2d_tensor *tensor);
  int32_t (*tensor_name)(const bn2d_tensor *tensor, const char **out);
  int32_t (*tensor_kind)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_dtype)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_rank)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_dim)(const bn2d_tensor *tensor, int32_t dimension, int64_t *out);
  int32_t (*tensor_nbytes)(const bn2d_tensor *tensor, uint64_t *out);
  int32_t (*tensor_data)(const bn2d_tensor *tensor, void **out);
  int32_t (*tensor_grad)(const bn2d_tensor *tensor, bn2d_tensor **out);
  int32_t (*tensor_requires_grad)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_set_requires_grad)(bn2d_tensor *tensor, int32_t requires_grad);
  int32_t (*tensor_copy_from)(bn2d_tensor *tensor, const bn2d_view *source);
  int32_t (*tensor_copy_to)(const bn2d_tensor *tensor, const bn2d_view *target);
  int32_t (*tensor_to_dlpack)(const bn2d_tensor *tensor, struct DLManagedTensorVersioned **out);
  int32_t (*tensor_to_dlpack_legacy)(const bn2d_tensor *tensor, struct DLManagedTensor **out);
  int32_t (*forward_f32)(bn2d_module *module, const float *x, int64_t n, int64_t h, int64_t w,
                         float *y, bn2d_record **record);
  int32_t (*forward_f64)(bn2d_module *module, const double *x, int64_t n, int64_t h, int64_t w,
                         double *y, bn2d_record **record);
  int32_t (*forward)(bn2d_module *module, const bn2d_view *x, const bn2d_view *y,
                     bn2d_record **record);
  int32_t (*forward_act)(bn2d_module *module, const bn2d_view *x, const bn2d_view *z,
                         int32_t activation, double slope, const bn2d_view *y,
                         bn2d_record **record);
  int32_t (*backward_f32)(bn2d_module *module, const bn2d_record *record, const float *dy,
                          float *dx);
  int32_t (*backward_f64)(bn2d_module *module, const bn2d_record *record, const double *dy,
                          double *dx);
  int32_t (*backward)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                      const bn2d_view *dx, const bn2d_view *dz);
  int32_t (*double_backward)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                             const bn2d_view *ddx, const void *ddweight, const void *ddbias,
                             const bn2d_view *ddy, const bn2d_view *dx);
  int32_t (*record_retain)(bn2d_record *record);
  void (*record_release)(bn2d_record *record);
  int32_t (*batch_norm_forward)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y,
                                int32_t dtype, const void *weight, const void *bias,
                                void *running_mean, void *running_var, int32_t batch_stats,
                                double averaging_factor, double eps, int32_t flags,
                                int32_t activation, double slope, uint8_t *mask, double *saved_mean,
                                double *saved_invstd);
  int32_t (*batch_norm_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                 const uint8_t *mask, int32_t dtype, const void *weight,
                                 const double *saved_mean, const double *saved_invstd,
                                 int32_t batch_stats, int32_t activation, double slope,
                                 double blend, const bn2d_view *dx, const bn2d_view *dz,
                                 void *dweight, void *dbias);
  int32_t (*batch_norm_double_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                        const uint8_t *mask, int32_t dtype, const void *weight,
                                        const double *saved_mean, const double *saved_invstd,
                                        int32_t batch_stats, int32_t activation, double slope,
                                        const bn2d_view *ddx, const void *ddweight,
                                        const void *ddbias, double blend, const bn2d_view *ddy,
                                        const bn2d_view *dx, void *dweight);
  int32_t (*mask_nbytes)(int64_t n, int64_t c, int64_t h, int64_t w, uint64_t *out);
  /* End of version 1. */
  int32_t (*forward_flat)(bn2d_module *module, int32_t dtype, int32_t layout, const void *x,
                          const void *z, int64_t n, int64_t h, int64_t w, int32_t activation,
                          double slope, void *y, bn2d_record **record);
  int32_t (*backward_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                           int32_t layout, const void *dy, void *dx, void *dz);
  int32_t (*double_backward_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                                  int32_t layout, const void *dy, const void *ddx,
                                  const void *ddweight, const void *ddbias, void *ddy, void *dx);
  int32_t (*batch_norm_forward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                     int64_t h, int64_t w, const void *x, const void *z, void *y,
                                     int32_t param_dtype, int64_t num_features, const void *weight,
                                     const void *bias, void *running_mean, void *running_var,
                                     int32_t batch_stats, double averaging_factor, double eps,
                                     int32_t flags, int32_t activation, double slope, uint8_t *mask,
                                     double *saved_mean, double *saved_invstd);
  int32_t (*batch_norm_backward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                      int64_t h, int64_t w, const void *x, const void *dy,
                                      const void *y, const uint8_t *mask, int32_t param_dtype,
                                      int64_t num_features, const void *weight,
                                      const double *saved_mean, const double *saved_invstd,
                                      int32_t batch_stats, int32_t activation, double slope,
                                      double blend, void *dx, void *dz, void *dweight, void *dbias);
  int32_t (*tensor_copy_from_flat)(bn2d_tensor *tensor, int32_t dtype, const void *data,
                                   int64_t length);
  int32_t (*tensor_copy_to_flat)(const bn2d_tensor *tensor, int32_t dtype, void *data,
                                 int64_t length);
  int32_t (*set_thread_pool)(int32_t kind);
  int32_t (*set_host_thread_pool)(bn2d_run_workers run, void *user, int32_t threads);
  int32_t (*get_thread_pool)(void);
  int32_t (*module_set_thread_pool)(bn2d_module *module, int32_t kind);
  int32_t (*module_set_host_thread_pool)(bn2d_module *module, bn2d_run_workers run, void *user,
                                         int32_t threads);
  int32_t (*module_get_thread_pool)(const bn2d_module *module, int32_t *out);
  /* End of version 2. */
  int32_t (*set_last_error)(int32_t status, const char *text);
  int32_t (*module_try_lock)(bn2d_module *module, int32_t exclusive);
  int32_t (*module_unlock)(bn2d_module *module, int32_t exclusive);
  int32_t (*module_scale_shift)(const bn2d_module *module, int32_t dtype, void *scale, void *shift,
                                int64_t length);
  /* End of version 3. */
  int32_t (*module_set_momentum)(bn2d_module *module, double momentum);
  int32_t (*module_set_momentum_none)(bn2d_module *module);
  int32_t (*module_set_frozen)(bn2d_module *module, int32_t frozen);
  int32_t (*module_is_frozen)(const bn2d_module *module, int32_t *out);
  int32_t (*statistics_create)(int64_t num_features, bn2d_statistics **out);
  int32_t (*statistics_retain)(bn2d_statistics *statistics);
  void (*statistics_release)(bn2d_statistics *statistics);
  int32_t (*statistics_accumulate)(bn2d_statistics *statistics, const bn2d_view *x);
  int32_t (*statistics_accumulate_flat)(bn2d_statistics *statistics, int32_t dtype, int32_t layout,
                                        const void *x, int64_t n, int64_t h, int64_t w);
  int32_t (*statistics_merge)(bn2d_statistics *statistics, const bn2d_statistics *other);
  int32_t (*statistics_reset)(bn2d_statistics *statistics);
  int32_t (*statistics_count)(const bn2d_statistics *statistics, int64_t *out);
  int32_t (*statistics_mean_var)(const bn2d_statistics *statistics, double *mean, double *var,
                                 int64_t length);
  int32_t (*statistics_export_length)(const bn2d_statistics *statistics, int64_t *out);
  int32_t (*statistics_export)(const bn2d_statistics *statistics, double *values, int64_t length);
  int32_t (*statistics_merge_exported)(bn2d_statistics *statistics, const double *values,
                                       int64_t length);
  int32_t (*forward_with_statistics)(bn2d_module *module, const bn2d_statistics *statistics,
                                     const bn2d_view *x, const bn2d_view *z, int32_t activation,
                                     double slope, const bn2d_view *y, bn2d_record **record);
  int32_t (*forward_with_statistics_flat)(bn2d_module *module, const bn2d_statistics *statistics,
                                          int32_t dtype, int32_t layout, const void *x,
                                          const void *z, int64_t n, int64_t h, int64_t w,
                                          int32_t activation, double slope, void *y,
                                          bn2d_record **record);
  int32_t (*record_batch_statistics)(const bn2d_record *record, int32_t *out);
  int32_t (*backward_sums)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                           double *sums, int64_t length);
  int32_t (*backward_sums_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                                int32_t layout, const void *dy, double *sums, int64_t length);
  int32_t (*backward_with_sums)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                                const double *sums, int64_t length, const bn2d_view *dx,
                                const bn2d_view *dz);
  int32_t (*backward_with_sums_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                                     int32_t layout, const void *dy, const double *sums,
                                     int64_t length, void *dx, void *dz);
  int32_t (*module_set_running_stats)(bn2d_module *module, const bn2d_statistics *statistics);
  int32_t (*options_set_ghost_batch_size)(bn2d_options *options, int64_t samples);
  int32_t (*group_norm_create)(int64_t num_groups, int64_t num_channels,
                               const bn2d_options *options, bn2d_module **out);
  int32_t (*instance_norm_create)(int64_t num_features, const bn2d_options *options,
                                  bn2d_module **out);
  int32_t (*module_norm)(const bn2d_module *module, int32_t *out);
  int32_t (*module_num_groups)(const bn2d_module *module, int64_t *out);
  int32_t (*module_ghost_batch_size)(const bn2d_module *module, int64_t *out);
  int32_t (*group_norm_forward)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y,
                                int64_t num_groups, int32_t dtype, const void *weight,
                                const void *bias, double eps, int32_t activation, double slope,
                                uint8_t *mask, double *saved_mean, double *saved_invstd);
  int32_t (*group_norm_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                 const uint8_t *mask, int64_t num_groups, int32_t dtype,
                                 const void *weight, const double *saved_mean,
                                 const double *saved_invstd, int32_t activation, double slope,
                                 double blend, const bn2d_view *dx, const bn2d_view *dz,
                                 void *dweight, void *dbias);
  int32_t (*group_norm_double_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                        const uint8_t *mask, int64_t num_groups, int32_t dtype,
                                        const void *weight, const double *saved_mean,
                                        const double *saved_invstd, int32_t activation,
                                        double slope, const bn2d_view *ddx, const void *ddweight,
                                        const void *ddbias, double blend, const bn2d_view *ddy,
                                        const bn2d_view *dx, void *dweight);
  int32_t (*group_norm_forward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                     int64_t h, int64_t w, const void *x, const void *z, void *y,
                                     int64_t num_groups, int32_t param_dtype, int64_t num_features,
                                     const void *weight, const void *bias, double eps,
                                     int32_t activation, double slope, uint8_t *mask,
                                     double *saved_mean, double *saved_invstd);
  int32_t (*group_norm_backward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                      int64_t h, int64_t w, const void *x, const void *dy,
                                      const void *y, const uint8_t *mask, int64_t num_groups,
                                      int32_t param_dtype, int64_t num_features, const void *weight,
                                      const double *saved_mean, const double *saved_invstd,
                                      int32_t activation, double slope, double blend, void *dx,
                                      void *dz, void *dweight, void *dbias);
  int32_t (*batch_norm_backward_act)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy,
                                     const bn2d_view *y, const uint8_t *mask, int32_t dtype,
                                     const void *weight, const void *bias, const double *saved_mean,
                                     const double *saved_invstd, int32_t batch_stats,
                                     int32_t activation, double slope, double blend,
                                     const bn2d_view *dx, const bn2d_view *dz, void *dweight,
                                     void *dbias);
  int32_t (*group_norm_backward_act)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy,
                                     const bn2d_view *y, const uint8_t *mask, int64_t num_groups,
                                     int32_t dtype, const void *weight, const void *bias,
                                     const double *saved_mean, const double *saved_invstd,
                                     int32_t activation, double slope, double blend,
                                     const bn2d_view *dx, const bn2d_view *dz, void *dweight,
                                     void *dbias);
  int32_t (*double_backward_act)(bn2d_module *module, const bn2d_record *record,
                                 const bn2d_view *dy, const bn2d_view *ddx, const bn2d_view *ddz,
                                 const void *ddweight, const void *ddbias, const bn2d_view *ddy,
                                 const bn2d_view *dx, const bn2d_view *dz);
  int32_t (*batch_norm_double_backward_act)(
      const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y,
      const uint8_t *mask, int32_t dtype, const void *weight, const void *bias,
      const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation,
      double slope, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight,
      const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx,
      const bn2d_view *dz, void *dweight, void *dbias);
  int32_t (*group_norm_double_backward_act)(
      const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y,
      const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias,
      const double *saved_mean, const double *saved_invstd, int32_t activation, double slope,
      const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias,
      double blend, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz, void *dweight,
      void *dbias);
} bn2d_api;

/**
 * The table, static and valid for ever (the library stays loaded after dlclose).
 * @param api_version BN2D_API_VERSION that the host was compiled with.
 * @return The table, or NULL where the library is older than asked for, or api_version is 0.
 *   Threads: free. Since 1.0.
 */
BN2D_API const bn2d_api *bn2d_get_api(uint32_t api_version);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BN2D_BN2D_H */
