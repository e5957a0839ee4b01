/* SPDX-License-Identifier: MIT */
/**
 * @file state.h
 * @brief State files: named tensors of any number of modules, to and from safetensors. Library
 * libbn2d_state.
 *
 * safetensors is the file format of PyTorch's ecosystem: what Python's package `safetensors` writes
 * loads here, and what is written here loads there. A library of its own, because code that reads
 * JSON is larger than libbn2d has room for: link with bn2d::state (CMake) or bn2d_state
 * (pkg-config), or load libbn2d_state.so.1.
 *
 * Saving, of modules under prefixes and of any other tensor:
 *
 *     bn2d_state *state = NULL;
 *     bn2d_state_create(&state);
 *     bn2d_state_set_module(state, "layer1.0.bn1.", bn1);  // layer1.0.bn1.weight, .bias, ...
 *     bn2d_state_set_module(state, "layer1.0.bn2.", bn2);
 *     bn2d_state_save(state, "model.safetensors");         // the whole file or the old one
 *     bn2d_state_release(state);
 *
 * Loading, all or nothing:
 *
 *     bn2d_loader *loader = NULL;
 *     bn2d_state_open("model.safetensors", &state);
 *     bn2d_loader_create(state, &loader);
 *     bn2d_loader_add_module(loader, "layer1.0.bn1.", bn1);
 *     bn2d_loader_add_module(loader, "layer1.0.bn2.", bn2);
 *     if (bn2d_loader_load(loader, 1) != BN2D_OK) puts(bn2d_last_error());
 *     bn2d_loader_release(loader);
 *     bn2d_state_release(state);
 *
 * The rules of bn2d.h hold: statuses, bn2d_last_error(), handles, threads, fork(), cancellation, no
 * exit and no signal. For a state and a loader, *one per object* means: one thread at a time may
 * change it (functions that take it without const), and none may read it meanwhile; functions that
 * take it as const only read, and any number of them may run at once.
 *
 * **Files that are not trusted.** A file is checked before anything of it is used: its header must
 * be JSON of the four levels that the format has, at most 100,000,000 bytes long, without a name
 * twice, and the tensors must fill the data exactly, without overlap or gap; else
 * BN2D_ERROR_FORMAT. Memory is taken in proportion to the header, and for data only what a module
 * or the host has asked for. Tensors of types that bn2d does not compute with are listed and copied
 * all the same.
 */
#ifndef BN2D_STATE_H
#define BN2D_STATE_H

#include <bn2d/bn2d.h>

/** Version of the table, for bn2d_state_get_api(). */
#define BN2D_STATE_API_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/** Named tensors. Made with bn2d_state_create(), bn2d_state_open() or bn2d_state_parse(), given
 * back with bn2d_state_release(). */
typedef struct bn2d_state bn2d_state;
/** What is to be loaded from a state, and how it went. Made with bn2d_loader_create(), given back
 * with bn2d_loader_release(). */
typedef struct bn2d_loader bn2d_loader;

/** What may be wrong with a name when it is loaded. */
enum bn2d_problem {
  BN2D_PROBLEM_MISSING = 1, /**< It is asked for, and not in the state. */
  BN2D_PROBLEM_UNEXPECTED =
      2, /**< It begins with the prefix of a module that was added, and is none of its names. */
  BN2D_PROBLEM_MISMATCHED = 3 /**< Its shape is another, or its dtype does not convert. */
};

/* ---------------------------------------------------------------------------------- states */

/**
 * A new state without tensors. Its metadata has "format": "pt", without which some Python packages
 * do not read a file.
 * @param[out] out The state; give back with bn2d_state_release().
 * @return BN2D_OK. Threads: free. Since 1.2.
 */
BN2D_API int32_t bn2d_state_create(bn2d_state **out);
/**
 * Opens a safetensors file. Its header is read now, its data when it is asked for: a large file
 * costs no memory. The file may be replaced meanwhile (as bn2d_state_save() does); the state goes
 * on with the old one. What was cut off the file meanwhile is BN2D_ERROR_IO where it is copied or
 * loaded.
 * @param path A regular file.
 * @param[out] out The state; give back with bn2d_state_release().
 * @return BN2D_OK, BN2D_ERROR_IO, BN2D_ERROR_FORMAT. Threads: free. Since 1.2.
 */
BN2D_API int32_t bn2d_state_open(const char *path, bn2d_state **out);
/**
 * The same from memory, which is copied.
 * @param[in] data The whole file.
 * @param nbytes Its bytes.
 * @param[out] out The state; give back with bn2d_state_release().
 * @return BN2D_OK, BN2D_ERROR_FORMAT. Threads: free. Since 1.2.
 */
BN2D_API int32_t bn2d_state_parse(const void *data, uint64_t nbytes, bn2d_state **out);
/** One more reference. @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.2. */
BN2D_API int32_t bn2d_state_retain(bn2d_state *state);
/** Gives one reference back; NULL is allowed. Threads: free. Since 1.2. */
BN2D_API void bn2d_state_release(bn2d_state *state);
/** Number of tensors. @return BN2D_OK. Threads: one per object. Since 1.2. */
BN2D_API int32_t bn2d_state_count(const bn2d_state *state, int64_t *out);
/**
 * The index of a tensor by its name. Indices count from 0: first the tensors of the file in its
 * order, then those that were set, in the order of setting. An index never changes.
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_find(const bn2d_state *state, const char *name, int64_t *out);
/** *out: the name of a tensor, as long as the state lives. @return BN2D_OK, BN2D_ERROR_NOT_FOUND.
 * Threads: one per object. Since 1.2. */
BN2D_API int32_t bn2d_state_name(const bn2d_state *state, int64_t index, const char **out);
/** One of bn2d_dtype, or 0 for a type that bn2d does not compute with. @return BN2D_OK,
 * BN2D_ERROR_NOT_FOUND. Threads: one per object. Since 1.2. */
BN2D_API int32_t bn2d_state_dtype(const bn2d_state *state, int64_t index, int32_t *out);
/** *out: the type as safetensors writes it, "F32", "BF16", "I64", "BOOL", ...; static. @return
 * BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: one per object. Since 1.2. */
BN2D_API int32_t bn2d_state_dtype_name(const bn2d_state *state, int64_t index, const char **out);
/** Number of dimensions. @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_rank(const bn2d_state *state, int64_t index, int32_t *out);
/** Extent of a dimension, from 0. @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: one per object.
 * Since 1.2. */
BN2D_API int32_t bn2d_state_dim(const bn2d_state *state, int64_t index, int32_t dimension,
                                int64_t *out);
/** Bytes of the elements. @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: one per object.
 * Since 1.2. */
BN2D_API int32_t bn2d_state_nbytes(const bn2d_state *state, int64_t index, uint64_t *out);
/**
 * The elements of a tensor where they lie: contiguous, the last dimension fastest. Of a file they
 * are mapped: nothing is read before it is touched. To touch what somebody has cut off the file
 * meanwhile is a SIGBUS: where you cannot rule that out, use bn2d_state_copy_to(). In a file of
 * another writer they may not be aligned to their size.
 * @param[in] state A state.
 * @param index Of a tensor or entry, from 0 on.
 * @param[out] out Valid until the tensor is set anew or the state ends.
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND, BN2D_ERROR_IO (the file cannot be mapped). Threads: one
 * per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_data(const bn2d_state *state, int64_t index, const void **out);
/**
 * Copies the elements of a tensor. float64, float32, float16 and bfloat16 convert, rounded to
 * nearest even; any other type only to itself.
 * @param[in] state A state.
 * @param index Of a tensor or entry, from 0 on.
 * @param[out] target Of the tensor's shape.
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND, BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE,
 * BN2D_ERROR_LAYOUT, BN2D_ERROR_OVERFLOW, BN2D_ERROR_IO. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_copy_to(const bn2d_state *state, int64_t index,
                                    const bn2d_view *target);
/**
 * Copies a tensor in under a name, in place of the one that has it.
 * @param[in] state A state.
 * @param name UTF-8; not "__metadata__", which the format keeps for itself.
 * @param[in] source Elements of any shape and strides; any type of DLPack that safetensors has,
 * too.
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT (name), BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE,
 * BN2D_ERROR_DEVICE, BN2D_ERROR_LAYOUT, BN2D_ERROR_OVERFLOW. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_set(bn2d_state *state, const char *name, const bn2d_view *source);
/**
 * As bn2d_state_set(), of a contiguous array.
 * @param[in] state A state.
 * @param[in] name Name of the tensor.
 * @param dtype One of bn2d_dtype.
 * @param[in] shape `rank` extents; NULL for a scalar.
 * @param rank Number of dimensions, 0 to 64.
 * @param[in] data The elements; where there are none, NULL will do.
 * @return as bn2d_state_set(). Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_set_flat(bn2d_state *state, const char *name, int32_t dtype,
                                     const int64_t *shape, int32_t rank, const void *data);
/**
 * The parameters and buffers of a module, copied as they are at this moment: weight, bias,
 * running_mean, running_var and num_batches_tracked, as far as they exist, each under its name
 * behind the prefix. The module is locked meanwhile, shared (bn2d_module_try_lock()).
 * @param[in] state A state.
 * @param[in] module A module.
 * @param prefix "layer1.0.bn1.", with its dot, as PyTorch's; "" for a module alone. Names are the
 * prefix and what follows, without more: "bn" makes "bnweight".
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT (prefix), BN2D_ERROR_BUSY; nothing is set then.
 * Threads: one per object; shared, of the module. Since 1.2.
 */
BN2D_API int32_t bn2d_state_set_module(bn2d_state *state, const char *prefix, bn2d_module *module);
/** Number of entries of the metadata. @return BN2D_OK. Threads: one per object. Since 1.2. */
BN2D_API int32_t bn2d_state_metadata_count(const bn2d_state *state, int64_t *out);
/**
 * An entry of the metadata: texts by name, beside the tensors.
 * @param[in] state A state.
 * @param index Of a tensor or entry, from 0 on.
 * @param[out] out_key,out_value Valid until the metadata is changed or the state ends.
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_metadata_at(const bn2d_state *state, int64_t index,
                                        const char **out_key, const char **out_value);
/**
 * Sets an entry of the metadata.
 * @param[in] state A state.
 * @param key UTF-8.
 * @param value UTF-8; "" takes the entry away.
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_set_metadata(bn2d_state *state, const char *key, const char *value);
/**
 * Writes all tensors to a safetensors file, the whole of it or nothing: to a new file in the same
 * folder, which takes the place of the old one when all of it is on the disk. Whatever fails or
 * dies in between, the old file is still there; what a killed process leaves behind is named
 * ".bn2d-<process>-<number>.tmp" and may be deleted. Permissions are those of the old file;
 * those of a new one are 0666 less the umask. A link to a file is followed; one to nothing is
 * BN2D_ERROR_IO.
 * @param[in] state A state.
 * @param path The file, or where it is to be.
 * @return BN2D_OK, BN2D_ERROR_IO (where only the folder's entry could not be brought to the disk,
 * the new file is in its place all the same), BN2D_ERROR_OVERFLOW. Threads: one per object.
 * Since 1.2.
 */
BN2D_API int32_t bn2d_state_save(const bn2d_state *state, const char *path);
/**
 * The same into memory.
 * @param[in] state A state.
 * @param[out] buffer Receives the file; may be NULL where capacity is 0. Holds a part of it where a
 *   tensor can no longer be read from the file that it was opened in (BN2D_ERROR_IO).
 * @param capacity Bytes of buffer; 0 only asks for the length.
 * @param[out] length Bytes of the file; may be NULL. Written where capacity is 0 or the file fits.
 * @return BN2D_OK, BN2D_ERROR_BUFFER_TOO_SMALL (nothing written), BN2D_ERROR_IO,
 * BN2D_ERROR_OVERFLOW. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_state_write(const bn2d_state *state, void *buffer, uint64_t capacity,
                                  uint64_t *length);

/* --------------------------------------------------------------------------------- loading */

/**
 * A new loader, which has nothing to load yet. It keeps the state.
 * @param[in] state A state.
 * @param[out] out The loader; give back with bn2d_loader_release().
 * @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.2.
 */
BN2D_API int32_t bn2d_loader_create(bn2d_state *state, bn2d_loader **out);
/** One more reference. @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: free. Since 1.2. */
BN2D_API int32_t bn2d_loader_retain(bn2d_loader *loader);
/** Gives one reference back; NULL is allowed. Threads: free. Since 1.2. */
BN2D_API void bn2d_loader_release(bn2d_loader *loader);
/**
 * Asks for all parameters and buffers of a module, and keeps the module. Values convert to the
 * module's dtype. num_batches_tracked may be missing, as in checkpoints of PyTorch before 0.4.1:
 * then the module's own stays.
 * @param[in] loader A loader.
 * @param[in] module A module.
 * @param prefix As for bn2d_state_set_module().
 * @return BN2D_OK, BN2D_ERROR_OVERFLOW. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_loader_add_module(bn2d_loader *loader, const char *prefix,
                                        bn2d_module *module);
/**
 * Asks for one tensor, for memory of the host: a convolution's weight, say. Values convert as in
 * bn2d_state_copy_to().
 * @param[in] loader A loader.
 * @param[in] name Name of the tensor.
 * @param[out] target Of the tensor's shape. The memory has to stay until the last load. Where
 * targets share memory, the one that was added last wins.
 * @return BN2D_OK, BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE, BN2D_ERROR_LAYOUT,
 * BN2D_ERROR_OVERFLOW. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_loader_add(bn2d_loader *loader, const char *name, const bn2d_view *target);
/**
 * As bn2d_loader_add(), for a contiguous array.
 * @param[in] loader A loader.
 * @param[in] name Name of the tensor.
 * @param dtype One of bn2d_dtype.
 * @param[in] shape `rank` extents; NULL for a scalar.
 * @param rank Number of dimensions, 0 to 64.
 * @param[out] data Receives the elements. Has to stay until the last load.
 * @return as bn2d_loader_add(). Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_loader_add_flat(bn2d_loader *loader, const char *name, int32_t dtype,
                                      const int64_t *shape, int32_t rank, void *data);
/**
 * Loads everything that was asked for. Either all of it, or nothing is changed: no module and no
 * memory of the host. The modules are locked meanwhile, exclusively (bn2d_module_try_lock()). May
 * be called again.
 * @param[in] loader A loader.
 * @param strict 1: missing and unexpected names are errors. 0: they are listed only, and what is
 * missing stays as it was. Mismatched ones are errors always. Names that do not begin with the
 * prefix of a module that was added are never unexpected, so that a part of a file can be loaded.
 * @return BN2D_OK; BN2D_ERROR_SHAPE or BN2D_ERROR_DTYPE (mismatched names), BN2D_ERROR_NOT_FOUND
 * (missing or unexpected names), BN2D_ERROR_INVALID_ARGUMENT (strict), BN2D_ERROR_BUSY,
 * BN2D_ERROR_IO. Threads: one per object; exclusive, of the modules. Since 1.2.
 */
BN2D_API int32_t bn2d_loader_load(bn2d_loader *loader, int32_t strict);
/**
 * Number of names with a problem, at the last bn2d_loader_load(), successful or not.
 * @param[in] loader A loader.
 * @param[out] out Their number.
 * @param problem One of bn2d_problem.
 * @return BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT. Threads: one per object. Since 1.2.
 */
BN2D_API int32_t bn2d_loader_problem_count(const bn2d_loader *loader, int32_t problem,
                                           int64_t *out);
/**
 * A name with a problem, and the problem: "has shape (3), must have (4)".
 * @param[in] loader A loader.
 * @param problem One of bn2d_problem.
 * @param index From 0.
 * @param[out] out_name,out_text Valid until the next load or the end of the loader.
 * @return BN2D_OK, BN2D_ERROR_NOT_FOUND, BN2D_ERROR_INVALID_ARGUMENT. Threads: one per object.
 * Since 1.2.
 */
BN2D_API int32_t bn2d_loader_problem_at(const bn2d_loader *loader, int32_t problem, int64_t index,
                                        const char **out_name, const char **out_text);

/* ---------------------------------------------------------------------------------- plugin */

/** All functions above as a table, for hosts that dlopen the library. As bn2d_api: slots are only
 * ever appended. */
typedef struct bn2d_state_api {
  uint64_t size;        /**< sizeof(bn2d_state_api) of the library. */
  uint32_t api_version; /**< BN2D_STATE_API_VERSION of the library. */
  uint32_t reserved;    /**< 0 */
  int32_t (*state_create)(bn2d_state **out);
  int32_t (*state_open)(const char *path, bn2d_state **out);
  int32_t (*state_parse)(const void *data, uint64_t nbytes, bn2d_state **out);
  int32_t (*state_retain)(bn2d_state *state);
  void (*state_release)(bn2d_state *state);
  int32_t (*state_count)(const bn2d_state *state, int64_t *out);
  int32_t (*state_find)(const bn2d_state *state, const char *name, int64_t *out);
  int32_t (*state_name)(const bn2d_state *state, int64_t index, const char **out);
  int32_t (*state_dtype)(const bn2d_state *state, int64_t index, int32_t *out);
  int32_t (*state_dtype_name)(const bn2d_state *state, int64_t index, const char **out);
  int32_t (*state_rank)(const bn2d_state *state, int64_t index, int32_t *out);
  int32_t (*state_dim)(const bn2d_state *state, int64_t index, int32_t dimension, int64_t *out);
  int32_t (*state_nbytes)(const bn2d_state *state, int64_t index, uint64_t *out);
  int32_t (*state_data)(const bn2d_state *state, int64_t index, const void **out);
  int32_t (*state_copy_to)(const bn2d_state *state, int64_t index, const bn2d_view *target);
  int32_t (*state_set)(bn2d_state *state, const char *name, const bn2d_view *source);
  int32_t (*state_set_flat)(bn2d_state *state, const char *name, int32_t dtype,
                            const int64_t *shape, int32_t rank, const void *data);
  int32_t (*state_set_module)(bn2d_state *state, const char *prefix, bn2d_module *module);
  int32_t (*state_metadata_count)(const bn2d_state *state, int64_t *out);
  int32_t (*state_metadata_at)(const bn2d_state *state, int64_t index, const char **out_key,
                               const char **out_value);
  int32_t (*state_set_metadata)(bn2d_state *state, const char *key, const char *value);
  int32_t (*state_save)(const bn2d_state *state, const char *path);
  int32_t (*state_write)(const bn2d_state *state, void *buffer, uint64_t capacity,
                         uint64_t *length);
  int32_t (*loader_create)(bn2d_state *state, bn2d_loader **out);
  int32_t (*loader_retain)(bn2d_loader *loader);
  void (*loader_release)(bn2d_loader *loader);
  int32_t (*loader_add_module)(bn2d_loader *loader, const char *prefix, bn2d_module *module);
  int32_t (*loader_add)(bn2d_loader *loader, const char *name, const bn2d_view *target);
  int32_t (*loader_add_flat)(bn2d_loader *loader, const char *name, int32_t dtype,
                             const int64_t *shape, int32_t rank, void *data);
  int32_t (*loader_load)(bn2d_loader *loader, int32_t strict);
  int32_t (*loader_problem_count)(const bn2d_loader *loader, int32_t problem, int64_t *out);
  int32_t (*loader_problem_at)(const bn2d_loader *loader, int32_t problem, int64_t index,
                               const char **out_name, const char **out_text);
  /* End of version 1. */
} bn2d_state_api;

/**
 * The table, static and valid for ever (the library stays loaded after dlclose).
 * @param api_version BN2D_STATE_API_VERSION that the host was compiled with.
 * @return The table, or NULL where the library is older than asked for, or api_version is 0.
 * Threads: free. Since 1.2.
 */
BN2D_API const bn2d_state_api *bn2d_state_get_api(uint32_t api_version);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BN2D_STATE_H */
