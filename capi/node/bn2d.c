/* SPDX-License-Identifier: MIT */
/* Node.js addon (N-API 8): batch normalisation on typed arrays, without a copy. README.md tells how
 * to use it. */
#define NAPI_VERSION 8
#include <bn2d/bn2d.h>
#include <inttypes.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------
 * errors */

/* Both throw a JavaScript Error with the code, and return what their callers return then. */
static bool fail_bool(napi_env env, const char *code, const char *message) {
  napi_throw_error(env, code, message);
  return false;
}
static napi_value fail_value(napi_env env, const char *code, const char *message) {
  napi_throw_error(env, code, message);
  return NULL;
}
/* As fail_bool(), with the library's text. False where there was an error. */
static bool ok(napi_env env, int32_t status) {
  return status == BN2D_OK || fail_bool(env, bn2d_status_name(status), bn2d_last_error());
}

/* In the order of napi_typedarray_type. */
static const char *const array_names[] = {"Int8Array",     "Uint8Array",    "Uint8ClampedArray",
                                          "Int16Array",    "Uint16Array",   "Int32Array",
                                          "Uint32Array",   "Float32Array",  "Float64Array",
                                          "BigInt64Array", "BigUint64Array"};

static const char *object_kind(napi_env env, napi_value value) {
  bool is = false;
  napi_typedarray_type type = (napi_typedarray_type)-1; /* of a kind newer than N-API 8, it stays */
  if (napi_is_typedarray(env, value, &is) == napi_ok && is) {
    napi_get_typedarray_info(env, value, &type, NULL, NULL, NULL, NULL);
    return (size_t)type < sizeof array_names / sizeof *array_names ? array_names[type]
                                                                   : "TypedArray";
  }
  if (napi_is_array(env, value, &is) == napi_ok && is) return "Array";
  if (napi_is_arraybuffer(env, value, &is) == napi_ok && is) return "ArrayBuffer";
  return napi_is_dataview(env, value, &is) == napi_ok && is ? "DataView" : "object";
}

/* What a value is, for the text of an error: "an Array", "the string '4'". Runs no code of the
 * user, and makes one line of it. */
typedef struct description {
  char text[80];
} description;
static description described(napi_env env, napi_value value) {
  description out = {"undefined"};
  char got[41] = "";
  size_t length = 0;
  napi_value string;
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  if (type == napi_object || type == napi_function || type == napi_symbol ||
      type == napi_external) {
    const char *kind = type == napi_object     ? object_kind(env, value)
                       : type == napi_function ? "function"
                       : type == napi_symbol   ? "symbol"
                                               : "external";
    snprintf(out.text, sizeof out.text, "%s %s", strchr("AIeo", *kind) ? "an" : "a", kind);
    return out;
  }
  if (napi_coerce_to_string(env, value, &string) != napi_ok ||
      napi_get_value_string_utf8(env, string, NULL, 0, &length) != napi_ok)
    return out;
  const bool cut = length >= sizeof got;
  napi_get_value_string_utf8(env, string, got, sizeof got, &length);
  for (size_t i = 0; i < length; ++i)
    if ((unsigned char)got[i] < ' ') got[i] = '?';
  const char *before = type == napi_string   ? "the string '"
                       : type == napi_bigint ? "the BigInt "
                                             : "";
  const char *after = type == napi_string ? "'" : type == napi_bigint ? "n" : "";
  snprintf(out.text, sizeof out.text, "%s%s%s%s", before, got, cut ? "..." : "", after);
  return out;
}
/* As fail_bool(), with what came: "x must be a Float32Array for float32, is an Array". */
static bool refuse(napi_env env, const char *code, const char *what, const char *is,
                   napi_value value) {
  char message[256];
  snprintf(message, sizeof message, "%s, %s %s", what, is, described(env, value).text);
  return fail_bool(env, code, message);
}

/* -------------------------------------------------------------------------------------------------
 * objects */

/* `bytes` is what V8 has been told of; 0 once it is given back. */
typedef struct module_object {
  bn2d_module *module; /* NULL: released */
  int64_t features, groups, ghost, bytes;
  int32_t norm, dtype;
} module_object;

/* A record and the arrays that it borrows. The record's JavaScript object keeps them, through the
 * array `held`: V8's collector sees that, and frees an array that knows its own record. References
 * from here are weak, for a strong one is a root to V8. They are what is read, so that user code
 * that empties `held` has an error and no dangling pointer. */
typedef struct record_object {
  bn2d_record *record; /* NULL: released */
  napi_ref held, x, y, z;
  int64_t bytes;
  int32_t dtype, layout;
  size_t length;
} record_object;

static const napi_type_tag module_tag = {0x62436b5f1a0c4f7bu, 0x8d2f1e5a93b7460du};
static const napi_type_tag record_tag = {0x3f8a27d1c96b4e02u, 0xb57e0c4416f8d93au};

/* Tells V8 how large an object is now, so that its collector runs in time. What it collects is
 * dropped in a later turn of the event loop. */
static void count_bytes(napi_env env, int64_t *told, int64_t now) {
  int64_t all;
  if (now != *told) napi_adjust_external_memory(env, now - *told, &all);
  *told = now;
}

static void let_module_go(napi_env env, module_object *object) {
  bn2d_module_release(object->module);
  object->module = NULL;
  count_bytes(env, &object->bytes, 0);
}
static void drop_module(napi_env env, void *data, void *hint) {
  (void)hint;
  let_module_go(env, data);
  free(data);
}

static void let_record_go(napi_env env, record_object *record) {
  napi_ref *const references[] = {&record->held, &record->x, &record->y, &record->z};
  bn2d_record_release(record->record);
  record->record = NULL;
  count_bytes(env, &record->bytes, 0);
  for (size_t i = 0; i < sizeof references / sizeof *references; ++i) {
    napi_value value = NULL;
    if (!*references[i]) continue;
    /* Node 16 frees a weak reference only with its value, a strong one at once. */
    if (napi_get_reference_value(env, *references[i], &value) == napi_ok && value)
      napi_reference_ref(env, *references[i], NULL);
    napi_delete_reference(env, *references[i]);
    *references[i] = NULL;
  }
}
static void drop_record(napi_env env, void *data, void *hint) {
  (void)hint;
  let_record_go(env, data);
  free(data);
}

static void *unwrapped(napi_env env, napi_value value, const napi_type_tag *tag, const char *what) {
  bool is = false;
  void *data = NULL;
  napi_valuetype type;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_object)
    (void)napi_check_object_type_tag(env, value, tag, &is);
  if (!is || napi_unwrap(env, value, &data) != napi_ok)
    refuse(env, "BN2D_ERROR_INVALID_HANDLE", what, "is", value);
  return data;
}

static bool alive(napi_env env, const module_object *object) {
  if (object->module) return true;
  return fail_bool(env, "BN2D_ERROR_INVALID_HANDLE", "the module has been released");
}

/* Arguments of a call of a method: this and up to `most` values, missing ones undefined. */
static module_object *arguments(napi_env env, napi_callback_info info, size_t most,
                                napi_value *values) {
  napi_value self;
  if (napi_get_cb_info(env, info, &most, values, &self, NULL) != napi_ok) return NULL;
  module_object *object = unwrapped(env, self, &module_tag, "this must be a norm");
  return object && alive(env, object) ? object : NULL;
}

static bool absent(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  return type == napi_undefined || type == napi_null;
}

/* -------------------------------------------------------------------------------------------------
 * values */

static napi_typedarray_type array_type(int32_t dtype) {
  return dtype == BN2D_F32   ? napi_float32_array
         : dtype == BN2D_F64 ? napi_float64_array
         : dtype == BN2D_I64 ? napi_bigint64_array
                             : napi_uint16_array;
}

/* The memory of a typed array that must have this dtype and length. */
static bool array(napi_env env, const char *name, napi_value value, int32_t dtype, size_t length,
                  void **out) {
  char message[160];
  bool is = false, detached = true;
  napi_typedarray_type type = (napi_typedarray_type)-1;
  size_t got = 0, offset;
  napi_value buffer;
  *out = NULL;
  if (napi_is_typedarray(env, value, &is) != napi_ok || !is ||
      napi_get_typedarray_info(env, value, &type, &got, out, &buffer, &offset) != napi_ok ||
      type != array_type(dtype)) {
    snprintf(message, sizeof message, "%s must be a %s for %s", name,
             array_names[array_type(dtype)], bn2d_dtype_name(dtype));
    return refuse(env, "BN2D_ERROR_DTYPE", message, "is", value);
  }
  if (napi_is_detached_arraybuffer(env, buffer, &detached) == napi_ok && detached) {
    snprintf(message, sizeof message, "the memory of %s has been transferred", name);
    return fail_bool(env, "BN2D_ERROR_INVALID_ARGUMENT", message);
  }
  if (got != length) {
    snprintf(message, sizeof message, "%s has %zu elements, must have %zu", name, got, length);
    return fail_bool(env, "BN2D_ERROR_SHAPE", message);
  }
  return true;
}

/* options[name], or undefined. False where JavaScript has thrown. */
static bool member(napi_env env, napi_value options, const char *name, napi_value *out) {
  if (absent(env, options)) return napi_get_undefined(env, out) == napi_ok;
  return napi_get_named_property(env, options, name, out) == napi_ok;
}

/* A value as text, as String(value) gives it. Nothing is cut: neither what is too long nor what has
 * a NUL. */
static bool text(napi_env env, napi_value value, char *out, size_t capacity) {
  napi_value string;
  size_t length;
  if (napi_coerce_to_string(env, value, &string) != napi_ok ||
      napi_get_value_string_utf8(env, string, NULL, 0, &length) != napi_ok)
    return false;
  if (length >= capacity)
    return fail_bool(env, "BN2D_ERROR_NOT_FOUND", "no name or value is as long as that");
  if (napi_get_value_string_utf8(env, string, out, capacity, &length) != napi_ok) return false;
  if (strlen(out) != length)
    return fail_bool(env, "BN2D_ERROR_NOT_FOUND", "a NUL is in a name or value");
  return true;
}

/* A name and its number in the library; NULL ends a list of them. */
typedef struct named {
  const char *name;
  int32_t number;
} named;

/* Finds the one that a value names. False where there is none: that has been thrown. */
static bool named_by(napi_env env, napi_value value, const char *what, const named *list,
                     const char *code, const named **out) {
  char got[64], message[320];
  if (!text(env, value, got, sizeof got)) return false;
  for (*out = list; (*out)->name; ++*out)
    if (strcmp((*out)->name, got) == 0) return true;
  size_t end =
      (size_t)snprintf(message, sizeof message, "no %s is named '%s'; known are", what, got);
  for (const named *one = list; one->name && end < sizeof message; ++one)
    end += (size_t)snprintf(message + end, sizeof message - end, "%s %s", one == list ? "" : ",",
                            one->name);
  return fail_bool(env, code, message);
}

/* The number of a name; *out stays where it is absent. */
static bool one_of(napi_env env, napi_value options, const char *what, const named *list,
                   int32_t *out) {
  const named *found;
  napi_value value;
  if (!member(env, options, what, &value)) return false;
  if (absent(env, value)) return true;
  if (!named_by(env, value, what, list, "BN2D_ERROR_INVALID_ARGUMENT", &found)) return false;
  *out = found->number;
  return true;
}

/* The names of an object's properties; none where it is absent. */
static bool names_of(napi_env env, napi_value object, napi_value *names, uint32_t *count) {
  napi_valuetype type;
  *count = 0;
  if (absent(env, object)) return true;
  if (napi_typeof(env, object, &type) != napi_ok) return false;
  if (type != napi_object)
    return refuse(env, "BN2D_ERROR_INVALID_ARGUMENT", "the options must be an object", "are",
                  object);
  return napi_get_property_names(env, object, names) == napi_ok &&
         napi_get_array_length(env, *names, count) == napi_ok;
}

/* An object has properties of these names alone. */
static bool known(napi_env env, napi_value object, const named *allowed) {
  const named *found;
  napi_value names, name;
  uint32_t count;
  if (!names_of(env, object, &names, &count)) return false;
  for (uint32_t i = 0; i < count; ++i)
    if (napi_get_element(env, names, i, &name) != napi_ok ||
        !named_by(env, name, "option", allowed, "BN2D_ERROR_NOT_FOUND", &found))
      return false;
  return true;
}

/* As large as a number of JavaScript is exact. */
#define LARGEST INT64_C(9007199254740991)

static bool whole(napi_env env, napi_value value, const char *name, int64_t least, int64_t most,
                  int64_t *out) {
  char message[120];
  double number = -1;
  if (napi_get_value_double(env, value, &number) == napi_ok && number >= (double)least &&
      number <= (double)most && number == (double)(int64_t)number) {
    *out = (int64_t)number;
    return true;
  }
  snprintf(message, sizeof message, "%s must be a whole number from %" PRId64 " to %" PRId64, name,
           least, most);
  return refuse(env, "BN2D_ERROR_INVALID_ARGUMENT", message, "is", value);
}

/* A number of threads. */
static bool thread_count(napi_env env, napi_value value, int32_t *out) {
  int64_t threads;
  if (!whole(env, value, "threads", 0, INT32_MAX, &threads)) return false;
  *out = (int32_t)threads;
  return true;
}

/* -------------------------------------------------------------------------------------------------
 * module */

static bool set_options(napi_env env, napi_value given, bn2d_options *options) {
  napi_value names;
  uint32_t count;
  if (!names_of(env, given, &names, &count)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    napi_value name, value;
    napi_valuetype type;
    char name_text[64], value_text[64] = "None"; /* null: no momentum */
    if (napi_get_element(env, names, i, &name) != napi_ok ||
        !text(env, name, name_text, sizeof name_text) ||
        napi_get_property(env, given, name, &value) != napi_ok ||
        napi_typeof(env, value, &type) != napi_ok)
      return false;
    if (type == napi_undefined) continue; /* as if it were not there */
    if (type != napi_null && !text(env, value, value_text, sizeof value_text)) return false;
    if (!ok(env, bn2d_options_set_by_name(options, name_text, value_text))) return false;
  }
  return true;
}

/* new BatchNorm2d(numFeatures, options), new GroupNorm(numGroups, numChannels, options),
 * new InstanceNorm2d(numFeatures, options). */
typedef struct norm_class {
  const char *name, *misuse;
  int32_t norm;
} norm_class;
static const norm_class classes[] = {
    {"BatchNorm2d", "use new BatchNorm2d()", BN2D_NORM_BATCH},
    {"GroupNorm", "use new GroupNorm()", BN2D_NORM_GROUP},
    {"InstanceNorm2d", "use new InstanceNorm2d()", BN2D_NORM_INSTANCE}};

static bool create(napi_env env, const norm_class *kind, const napi_value *values,
                   module_object *object) {
  const bool grouped = kind->norm == BN2D_NORM_GROUP;
  bn2d_options *options = NULL;
  bool made = (!grouped || whole(env, values[0], "numGroups", 1, LARGEST, &object->groups)) &&
              whole(env, values[grouped], grouped ? "numChannels" : "numFeatures", 1, LARGEST,
                    &object->features) &&
              ok(env, bn2d_options_create(&options)) &&
              set_options(env, values[grouped + 1], options);
  if (made) {
    const int32_t status =
        grouped ? bn2d_group_norm_create(object->groups, object->features, options, &object->module)
        : kind->norm == BN2D_NORM_INSTANCE
            ? bn2d_instance_norm_create(object->features, options, &object->module)
            : bn2d_module_create(object->features, options, &object->module);
    made = ok(env, status) && ok(env, bn2d_module_dtype(object->module, &object->dtype)) &&
           ok(env, bn2d_module_ghost_batch_size(object->module, &object->ghost));
    object->norm = kind->norm;
  }
  bn2d_options_release(options);
  return made;
}

/* The bytes of a module: its tensors, and the gradients of parameters. */
static int64_t module_bytes(const module_object *object) {
  int32_t count = 0, kind = 0;
  uint64_t bytes = 0, all = 0;
  bn2d_tensor *tensor;
  bn2d_module_tensor_count(object->module, &count);
  for (int32_t i = 0; i < count; ++i) {
    if (bn2d_module_tensor_at(object->module, i, &tensor) != BN2D_OK) continue;
    bn2d_tensor_kind(tensor, &kind);
    bn2d_tensor_nbytes(tensor, &bytes);
    all += kind == BN2D_PARAMETER ? 2 * bytes : bytes;
    bn2d_tensor_release(tensor);
  }
  return (int64_t)all;
}

static napi_value construct(napi_env env, napi_callback_info info) {
  napi_value self, values[3], target;
  size_t count = 3;
  void *kind;
  if (napi_get_cb_info(env, info, &count, values, &self, &kind) != napi_ok ||
      napi_get_new_target(env, info, &target) != napi_ok)
    return NULL;
  if (!target)
    return fail_value(env, "BN2D_ERROR_INVALID_ARGUMENT", ((const norm_class *)kind)->misuse);
  module_object *object = calloc(1, sizeof *object);
  if (!object) return fail_value(env, "BN2D_ERROR_OUT_OF_MEMORY", "no memory for a module");
  if (create(env, kind, values, object) &&
      napi_type_tag_object(env, self, &module_tag) == napi_ok &&
      napi_wrap(env, self, object, drop_module, NULL, NULL) == napi_ok) {
    count_bytes(env, &object->bytes, module_bytes(object));
    return self;
  }
  drop_module(env, object, NULL);
  return NULL;
}

static napi_value undefined(napi_env env) {
  napi_value value;
  napi_get_undefined(env, &value);
  return value;
}

/* The one method that a released module has. */
static napi_value release_module(napi_env env, napi_callback_info info) {
  napi_value self;
  size_t none = 0;
  if (napi_get_cb_info(env, info, &none, NULL, &self, NULL) != napi_ok) return NULL;
  module_object *object = unwrapped(env, self, &module_tag, "this must be a norm");
  if (object) let_module_go(env, object);
  return object ? undefined(env) : NULL;
}
static napi_value train(napi_env env, napi_callback_info info) {
  napi_value mode;
  bool training = true;
  const module_object *self = arguments(env, info, 1, &mode);
  if (!self) return NULL;
  if (!absent(env, mode) && napi_get_value_bool(env, mode, &training) != napi_ok)
    refuse(env, "BN2D_ERROR_INVALID_ARGUMENT", "the mode must be true or false", "is", mode);
  else if (ok(env, bn2d_module_train(self->module, training)))
    return undefined(env);
  return NULL;
}
static napi_value is_training(napi_env env, napi_callback_info info) {
  int32_t training = 0;
  napi_value value;
  const module_object *self = arguments(env, info, 0, NULL);
  if (!self || !ok(env, bn2d_module_is_training(self->module, &training))) return NULL;
  return napi_get_boolean(env, training != 0, &value) == napi_ok ? value : NULL;
}
static napi_value num_features(napi_env env, napi_callback_info info) {
  napi_value value;
  const module_object *self = arguments(env, info, 0, NULL);
  if (!self) return NULL;
  return napi_create_int64(env, self->features, &value) == napi_ok ? value : NULL;
}
static napi_value eval(napi_env env, napi_callback_info info) {
  const module_object *self = arguments(env, info, 0, NULL);
  return self && ok(env, bn2d_module_eval(self->module)) ? undefined(env) : NULL;
}
static napi_value zero_grad(napi_env env, napi_callback_info info) {
  const module_object *self = arguments(env, info, 0, NULL);
  return self && ok(env, bn2d_module_zero_grad(self->module)) ? undefined(env) : NULL;
}
static napi_value reset_running_stats(napi_env env, napi_callback_info info) {
  const module_object *self = arguments(env, info, 0, NULL);
  return self && ok(env, bn2d_module_reset_running_stats(self->module)) ? undefined(env) : NULL;
}
static napi_value set_num_threads(napi_env env, napi_callback_info info) {
  napi_value value;
  int32_t threads;
  const module_object *self = arguments(env, info, 1, &value);
  if (!self || !thread_count(env, value, &threads)) return NULL;
  return ok(env, bn2d_module_set_num_threads(self->module, threads)) ? undefined(env) : NULL;
}
static napi_value to_string(napi_env env, napi_callback_info info) {
  char buffer[512];
  napi_value value;
  const module_object *self = arguments(env, info, 0, NULL);
  if (!self || !ok(env, bn2d_module_repr(self->module, buffer, sizeof buffer, NULL))) return NULL;
  return napi_create_string_utf8(env, buffer, NAPI_AUTO_LENGTH, &value) == napi_ok ? value : NULL;
}

/* ----------------------------------------------------------------------------------- forward and
 * backward */

static const named layouts[] = {{"nchw", BN2D_NCHW},
                                {"nhwc", BN2D_NHWC},
                                {"channels_first", BN2D_NCHW},
                                {"channels_last", BN2D_NHWC},
                                {NULL, 0}};
static const named activations[] = {{"none", BN2D_ACT_NONE},
                                    {"relu", BN2D_ACT_RELU},
                                    {"leaky_relu", BN2D_ACT_LEAKY_RELU},
                                    {"relu6", BN2D_ACT_RELU6},
                                    {"clamp", BN2D_ACT_CLAMP},
                                    {"hardswish", BN2D_ACT_HARDSWISH},
                                    {"silu", BN2D_ACT_SILU},
                                    {"gelu", BN2D_ACT_GELU},
                                    {"sigmoid", BN2D_ACT_SIGMOID},
                                    {NULL, 0}};
/* Of arrays. */
static const named dtypes[] = {
    {"f32", BN2D_F32},     {"f64", BN2D_F64},       {"f16", BN2D_F16},
    {"bf16", BN2D_BF16},   {"float32", BN2D_F32},   {"float64", BN2D_F64},
    {"float16", BN2D_F16}, {"bfloat16", BN2D_BF16}, {NULL, 0}};
static const named forward_options[] = {{"z", 0},      {"activation", 0}, {"slope", 0},
                                        {"layout", 0}, {"dtype", 0},      {NULL, 0}};

/* The slope as the library takes it: a number, or the default. Texts are not converted. */
static bool slope_of(napi_env env, napi_value options, int32_t activation, double *out) {
  napi_value value;
  *out = 0.01; /* PyTorch's of leaky_relu; the others ignore it */
  if (!member(env, options, "slope", &value)) return false;
  if (absent(env, value)) {
    if (activation != BN2D_ACT_CLAMP) return true;
    return fail_bool(env, "BN2D_ERROR_INVALID_ARGUMENT", "clamp needs slope, its upper bound");
  }
  if (napi_get_value_double(env, value, out) == napi_ok) return true;
  return refuse(env, "BN2D_ERROR_INVALID_ARGUMENT", "slope must be a number", "is", value);
}

/* [n, h, w], and the length of a tensor. */
static bool read_extents(napi_env env, const module_object *self, napi_value value,
                         int64_t *extents, int64_t *length) {
  static const char *const names[] = {"n", "h", "w"};
  char message[160];
  bool is = false;
  uint32_t count = 0;
  if (napi_is_array(env, value, &is) != napi_ok || !is ||
      napi_get_array_length(env, value, &count) != napi_ok)
    return refuse(env, "BN2D_ERROR_INVALID_ARGUMENT", "the extents must be an array [n, h, w]",
                  "are", value);
  if (count != 3) {
    snprintf(message, sizeof message,
             "the extents have %" PRIu32 " elements, must have 3: [n, h, w]", count);
    return fail_bool(env, "BN2D_ERROR_INVALID_ARGUMENT", message);
  }
  for (uint32_t i = 0; i < 3; ++i) {
    napi_value extent;
    if (napi_get_element(env, value, i, &extent) != napi_ok ||
        !whole(env, extent, names[i], 0, LARGEST, &extents[i]))
      return false;
  }
  *length = self->features;
  for (int i = 0; i < 3; ++i) {
    if (extents[i] != 0 && *length > INT64_MAX / extents[i]) {
      snprintf(message, sizeof message,
               "(%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
               ") is too large: more than %" PRId64 " elements",
               extents[0], self->features, extents[1], extents[2], INT64_MAX);
      return fail_bool(env, "BN2D_ERROR_OVERFLOW", message);
    }
    *length *= extents[i];
  }
  return true;
}

/* The bytes of a record, about: mean, its low part and 1/std of each set of values, weight and bias
 * of each channel, and where an activation has its corner. It cannot overflow: x is in memory, and
 * each term is a small multiple of its elements. */
static int64_t record_bytes(const module_object *self, int64_t n, int64_t length,
                            int32_t activation) {
  const int64_t parts = length == 0                     ? 0
                        : self->norm != BN2D_NORM_BATCH ? n
                        : self->ghost > 0               ? (n - 1) / self->ghost + 1
                                                        : 1;
  const int64_t sets = parts * (self->norm == BN2D_NORM_GROUP ? self->groups : self->features);
  const int64_t corners = activation == BN2D_ACT_NONE ? 0 : 2 * parts * self->features;
  return (int64_t)sizeof(record_object) +
         (int64_t)sizeof(double) * (3 * sets + 2 * self->features + corners);
}

/* Has the arrays kept by a new `held`; z may be NULL. Defined, not set: no setter of the user's
 * takes part. */
static bool keep(napi_env env, record_object *record, napi_value x, napi_value y, napi_value z) {
  const napi_property_descriptor arrays[] = {
      {.utf8name = "0", .value = x, .attributes = napi_configurable},
      {.utf8name = "1", .value = y, .attributes = napi_configurable},
      {.utf8name = "2", .value = z, .attributes = napi_configurable}};
  napi_value held;
  return napi_create_array(env, &held) == napi_ok &&
         napi_define_properties(env, held, z ? 3 : 2, arrays) == napi_ok &&
         napi_create_reference(env, held, 0, &record->held) == napi_ok &&
         napi_create_reference(env, x, 0, &record->x) == napi_ok &&
         napi_create_reference(env, y, 0, &record->y) == napi_ok &&
         (!z || napi_create_reference(env, z, 0, &record->z) == napi_ok);
}

/* forward(x, [n, h, w], y, {z, activation, slope, layout, dtype}); made: NULL for infer. */
static bool run(napi_env env, const module_object *self, const napi_value *values,
                record_object *made) {
  const napi_value options = values[3];
  napi_value z_value;
  int64_t extents[3], length;
  int32_t dtype = self->dtype, layout = BN2D_NCHW, activation = BN2D_ACT_NONE;
  double slope;
  void *x, *y, *z = NULL;
  if (!read_extents(env, self, values[1], extents, &length) ||
      !known(env, options, forward_options) || !one_of(env, options, "dtype", dtypes, &dtype) ||
      !one_of(env, options, "layout", layouts, &layout) ||
      !one_of(env, options, "activation", activations, &activation) ||
      !slope_of(env, options, activation, &slope) || !member(env, options, "z", &z_value))
    return false;
  if (!array(env, "x", values[0], dtype, (size_t)length, &x) ||
      !array(env, "y", values[2], dtype, (size_t)length, &y) ||
      (!absent(env, z_value) && !array(env, "z", z_value, dtype, (size_t)length, &z)))
    return false;
  /* An option may be a getter, and a getter may release the module. What may fail is done before
   * the running statistics move. */
  if (!alive(env, self)) return false;
  if (made && !keep(env, made, values[0], values[2], absent(env, z_value) ? NULL : z_value))
    return fail_bool(env, "BN2D_ERROR_OUT_OF_MEMORY", "no memory for a record");
  if (!ok(env, bn2d_forward_flat(self->module, dtype, layout, x, z, extents[0], extents[1],
                                 extents[2], activation, slope, y, made ? &made->record : NULL)))
    return false;
  if (made) {
    made->dtype = dtype;
    made->layout = layout;
    made->length = (size_t)length;
    count_bytes(env, &made->bytes, record_bytes(self, extents[0], length, activation));
  }
  return true;
}

static napi_value infer(napi_env env, napi_callback_info info) {
  napi_value values[4];
  int32_t training = 0;
  const module_object *self = arguments(env, info, 4, values);
  if (!self || !ok(env, bn2d_module_is_training(self->module, &training))) return NULL;
  if (training)
    return fail_value(env, "BN2D_ERROR_STATE",
                      "infer needs eval mode, the module is in training mode");
  return run(env, self, values, NULL) ? undefined(env) : NULL;
}

static napi_value release_record(napi_env env, napi_callback_info info) {
  napi_value self, held = NULL;
  size_t none = 0;
  if (napi_get_cb_info(env, info, &none, NULL, &self, NULL) != napi_ok) return NULL;
  record_object *record = unwrapped(env, self, &record_tag, "this must be a record");
  if (!record) return NULL;
  if (record->held && napi_get_reference_value(env, record->held, &held) == napi_ok && held)
    for (uint32_t i = 0; i < 3; ++i) napi_delete_element(env, held, i, NULL);
  let_record_go(env, record);
  return undefined(env);
}

/* The JavaScript object of a record. User code can neither delete nor replace its `held`. */
static bool record_value(napi_env env, record_object *made, napi_value *out) {
  napi_property_descriptor properties[] = {
      {.utf8name = "release", .method = release_record, .attributes = napi_default_jsproperty},
      {.utf8name = "held", .attributes = napi_default}};
  return napi_get_reference_value(env, made->held, &properties[1].value) == napi_ok &&
         napi_create_object(env, out) == napi_ok &&
         napi_define_properties(env, *out, 2, properties) == napi_ok &&
         napi_type_tag_object(env, *out, &record_tag) == napi_ok &&
         napi_wrap(env, *out, made, drop_record, NULL, NULL) == napi_ok;
}

static napi_value forward(napi_env env, napi_callback_info info) {
  napi_value values[4], result;
  const module_object *self = arguments(env, info, 4, values);
  record_object *made = self ? calloc(1, sizeof *made) : NULL;
  if (!self) return NULL;
  if (!made) return fail_value(env, "BN2D_ERROR_OUT_OF_MEMORY", "no memory for a record");
  if (run(env, self, values, made) && record_value(env, made, &result)) return result;
  drop_record(env, made, NULL);
  return NULL;
}

/* The array of a reference is where it was: nobody has transferred its memory, or let go of it. */
static bool in_place(napi_env env, napi_ref reference, const record_object *record,
                     const char *name) {
  char message[80];
  napi_value value = NULL;
  void *data;
  if (napi_get_reference_value(env, reference, &value) != napi_ok) return false;
  if (value) return array(env, name, value, record->dtype, record->length, &data);
  snprintf(message, sizeof message, "%s is gone: the record's held does not have it", name);
  return fail_bool(env, "BN2D_ERROR_INVALID_HANDLE", message);
}

/* backward(record, dy, dx, dz): dx and dz may be null. */
static napi_value backward(napi_env env, napi_callback_info info) {
  napi_value values[4];
  void *dy, *dx = NULL, *dz = NULL;
  const module_object *self = arguments(env, info, 4, values);
  const record_object *record =
      self ? unwrapped(env, values[0], &record_tag, "record must be one of forward") : NULL;
  if (!record) return NULL;
  if (!record->record)
    return fail_value(env, "BN2D_ERROR_INVALID_HANDLE", "the record has been released");
  if (!in_place(env, record->x, record, "x") || !in_place(env, record->y, record, "y") ||
      (record->z && !in_place(env, record->z, record, "z")) ||
      !array(env, "dy", values[1], record->dtype, record->length, &dy) ||
      (!absent(env, values[2]) &&
       !array(env, "dx", values[2], record->dtype, record->length, &dx)) ||
      (!absent(env, values[3]) && !array(env, "dz", values[3], record->dtype, record->length, &dz)))
    return NULL;
  return ok(env, bn2d_backward_flat(self->module, record->record, record->dtype, record->layout, dy,
                                    dx, dz))
             ? undefined(env)
             : NULL;
}

/* -------------------------------------------------------------------------------------------------
 * tensors */

/* The tensor of a name with its dtype and length; the caller releases it. */
static bn2d_tensor *find(napi_env env, const module_object *self, napi_value name, int32_t *dtype,
                         size_t *length) {
  char name_text[64];
  bn2d_tensor *tensor = NULL;
  uint64_t bytes = 0;
  /* To make a text of a name may run code of the user, which may release the module. */
  if (!text(env, name, name_text, sizeof name_text) || !alive(env, self) ||
      !ok(env, bn2d_module_tensor_by_name(self->module, name_text, &tensor)))
    return NULL;
  bn2d_tensor_dtype(tensor, dtype);
  bn2d_tensor_nbytes(tensor, &bytes);
  *length = bytes / bn2d_dtype_size(*dtype);
  return tensor;
}

/* get(name): a new typed array with a copy of the elements. */
static napi_value get(napi_env env, napi_callback_info info) {
  napi_value name, buffer, result = NULL;
  int32_t dtype = 0;
  size_t length = 0;
  void *data;
  const module_object *self = arguments(env, info, 1, &name);
  bn2d_tensor *tensor = self ? find(env, self, name, &dtype, &length) : NULL;
  if (!tensor) return NULL;
  if (napi_create_arraybuffer(env, length * bn2d_dtype_size(dtype), &data, &buffer) != napi_ok ||
      !ok(env, bn2d_tensor_copy_to_flat(tensor, dtype, data, (int64_t)length)) ||
      napi_create_typedarray(env, array_type(dtype), length, buffer, 0, &result) != napi_ok)
    result = NULL;
  bn2d_tensor_release(tensor);
  return result;
}

/* set(name, values): a typed array of the tensor's dtype and length. */
static napi_value set(napi_env env, napi_callback_info info) {
  napi_value values[2];
  int32_t dtype = 0;
  size_t length = 0;
  void *data;
  const module_object *self = arguments(env, info, 2, values);
  bn2d_tensor *tensor = self ? find(env, self, values[0], &dtype, &length) : NULL;
  if (!tensor) return NULL;
  const bool done = array(env, "the array", values[1], dtype, length, &data) &&
                    ok(env, bn2d_tensor_copy_from_flat(tensor, dtype, data, (int64_t)length));
  bn2d_tensor_release(tensor);
  return done ? undefined(env) : NULL;
}

/* setNumThreads(threads) of the process. */
static napi_value limit_threads(napi_env env, napi_callback_info info) {
  napi_value value;
  size_t count = 1;
  int32_t threads;
  napi_get_cb_info(env, info, &count, &value, NULL, NULL);
  if (!thread_count(env, value, &threads)) return NULL;
  return ok(env, bn2d_set_num_threads(threads)) ? undefined(env) : NULL;
}

NAPI_MODULE_INIT() {
  const struct {
    const char *name;
    napi_callback call;
  } methods[] = {{"release", release_module},
                 {"train", train},
                 {"isTraining", is_training},
                 {"numFeatures", num_features},
                 {"eval", eval},
                 {"zeroGrad", zero_grad},
                 {"resetRunningStats", reset_running_stats},
                 {"setNumThreads", set_num_threads},
                 {"toString", to_string},
                 {"forward", forward},
                 {"infer", infer},
                 {"backward", backward},
                 {"get", get},
                 {"set", set}};
  enum { count = sizeof methods / sizeof *methods };
  napi_property_descriptor properties[count];
  napi_value constructor, function, version;
  memset(properties, 0, sizeof properties);
  for (int i = 0; i < count; ++i) {
    properties[i].utf8name = methods[i].name;
    properties[i].method = methods[i].call;
    properties[i].attributes = napi_default;
  }
  for (size_t i = 0; i < sizeof classes / sizeof *classes; ++i)
    if (napi_define_class(env, classes[i].name, NAPI_AUTO_LENGTH, construct, (void *)&classes[i],
                          count, properties, &constructor) != napi_ok ||
        napi_set_named_property(env, exports, classes[i].name, constructor) != napi_ok)
      return NULL;
  if (napi_create_function(env, "setNumThreads", NAPI_AUTO_LENGTH, limit_threads, NULL,
                           &function) != napi_ok ||
      napi_create_string_utf8(env, bn2d_version_string(), NAPI_AUTO_LENGTH, &version) != napi_ok ||
      napi_set_named_property(env, exports, "setNumThreads", function) != napi_ok ||
      napi_set_named_property(env, exports, "version", version) != napi_ok)
    return NULL;
  return exports;
}
