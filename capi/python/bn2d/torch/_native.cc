// SPDX-License-Identifier: MIT
// The eager path of bn2d.torch in C++: what `_modules._forward` does for plain tensors, and its
// backward. `python -m bn2d.torch.build` compiles it for the torch that is installed.
//
// It takes a call only where everything is as it should be, and returns None otherwise: then Python
// decides, so that fallbacks and the texts of errors exist once. A forward of (2, 16, 8, 8) takes
// 7.5 us, and 23 us in Python (capi/python/bench/calls.py --threads 1).

#include <Python.h>
// First, as it must be.
#include <ATen/EmptyTensor.h>
#include <bn2d/bn2d.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/DynamicTypes.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace bn2d {
namespace {

using at::ScalarType;
using at::Tensor;
using torch::autograd::variable_list;

// Of the library that Python has loaded: linking it could bring a second copy into the process.
const bn2d_api *library = nullptr;
// bn2d._api.fail and bn2d.torch._autograd.gradients
PyObject *fail_function = nullptr, *gradients_function = nullptr;

struct WithoutGil {
  PyThreadState *state = PyEval_SaveThread();
  ~WithoutGil() { PyEval_RestoreThread(state); }
};

struct WithGil {
  PyGILState_STATE state = PyGILState_Ensure();
  ~WithGil() { PyGILState_Release(state); }
};

using Object = THPObjectPtr;

// Hands Python's exception to torch, which takes it through its engine and raises it again.
[[noreturn]] void throw_python_error() {
  python_error error;
  error.persist();
  throw error;
}

// Raises what bn2d._api.fail does, with the text of this thread's last failure. Needs the GIL.
[[noreturn]] void fail(int32_t status) {
  const Object raised(PyObject_CallFunction(fail_function, "i", static_cast<int>(status)));
  throw_python_error();
}

// ----------------------------------------------------------------------------------------- tensors

constexpr c10::DispatchKeySet kPlainKeys = c10::DispatchKeySet(c10::DispatchKey::CPU) |
                                           c10::DispatchKeySet(c10::DispatchKey::AutogradCPU) |
                                           c10::DispatchKeySet(c10::DispatchKey::ADInplaceOrView) |
                                           c10::autocast_dispatch_keyset;
// Dense kernels run anyway; torch.export of 2.4 leaves their key behind.
constexpr c10::DispatchKeySet kPlainModes = c10::default_included_set |
                                            c10::autocast_dispatch_keyset |
                                            c10::DispatchKeySet(c10::DispatchKey::Dense);

// Whether all keys are among others; operator- takes no backends away.
bool within(c10::DispatchKeySet keys, c10::DispatchKeySet others) {
  return (keys.raw_repr() & ~others.raw_repr()) == 0;
}

// Whether this thread computes as it seems: no dispatch mode, no transform of functorch, no trace.
bool has_plain_modes() {
  return within(c10::impl::tls_local_dispatch_key_set().included_, kPlainModes);
}

// A dense tensor of the CPU without wrapper, lazy negation or tangent, whose memory has not been
// freed. By its keys: what torch adds to a tensor next year is a key more, too.
bool is_plain(const Tensor &tensor) {
  const c10::DispatchKeySet keys = tensor.key_set();
  return within(keys, kPlainKeys) && keys.has(c10::DispatchKey::CPU) &&
         !tensor._fw_grad(0).defined() && (tensor.const_data_ptr() || tensor.numel() == 0);
}

// bn2d_dtype of a dtype, or 0.
int32_t dtype_number(ScalarType dtype) {
  constexpr ScalarType kDtypes[] = {ScalarType::Float, ScalarType::Double, ScalarType::Half,
                                    ScalarType::BFloat16};
  static_assert(BN2D_F32 == 1 && BN2D_F64 == 2 && BN2D_F16 == 3 && BN2D_BF16 == 4);
  const auto *found = std::find(std::begin(kDtypes), std::end(kDtypes), dtype);
  return found == std::end(kDtypes) ? 0 : static_cast<int32_t>(found - kDtypes) + 1;
}

bool dtypes_fit(ScalarType data, ScalarType parameters) {
  const bool half = data == ScalarType::Half || data == ScalarType::BFloat16;
  return dtype_number(data) != 0 &&
         (data == parameters || (half && parameters == ScalarType::Float));
}

// Data that the library takes as it lies.
bool is_data(const Tensor &tensor) {
  if (tensor.dim() != 4 || !is_plain(tensor)) return false;
  for (int64_t stride : tensor.strides())
    if (stride == 0) return false;
  return true;
}

bool is_like(const Tensor &tensor, const Tensor &x) {
  return is_data(tensor) && tensor.sizes() == x.sizes() && tensor.scalar_type() == x.scalar_type();
}

// An array of the channels, of which the library gets the address alone.
bool is_array(const Tensor &tensor, const Tensor &x, ScalarType parameters) {
  return tensor.dim() == 1 && tensor.size(0) == x.size(1) && tensor.scalar_type() == parameters &&
         tensor.is_contiguous() && is_plain(tensor);
}

// The library's view of a tensor, or NULL of an undefined one. Valid as long as the tensor.
class View {
 public:
  explicit View(const Tensor &tensor) : exists_(tensor.defined()) {
    if (!exists_) return;
    view_.data = tensor.data_ptr();
    view_.device_type = BN2D_CPU;
    view_.ndim = static_cast<int32_t>(tensor.dim());
    view_.dtype_code = tensor.scalar_type() == ScalarType::BFloat16 ? 4 : 2;
    view_.dtype_bits = static_cast<uint8_t>(8 * tensor.element_size());
    view_.dtype_lanes = 1;
    view_.shape = tensor.sizes().data();
    view_.strides = tensor.strides().data();
  }
  operator const bn2d_view *() const { return exists_ ? &view_ : nullptr; }

 private:
  bool exists_;
  bn2d_view view_ = {};
};

// What torch.empty_like and torch.empty return, without their way through the dispatcher. y and the
// gradients like it have the format that torch's norms choose (_calls.format_of).
Tensor new_like(const Tensor &x) {
  return at::detail::empty_cpu(x.sizes(), x.scalar_type(), false, x.suggest_memory_format());
}
Tensor new_array(int64_t length, ScalarType dtype) {
  return at::detail::empty_cpu({length}, dtype);
}

void *address(const Tensor &tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }

// ------------------------------------------------------------------------------------------ a call

// What forward and backward need to know beside tensors.
struct Settings {
  ScalarType parameters;
  int32_t activation;
  double slope;
  int64_t groups;  // of a group norm, or 0
  bool batch_stats;

  // These say the same as _calls.py, where the reasons are; a test compares what is saved.
  bool masks() const { return activation != BN2D_ACT_NONE && slope < 0; }
  bool is_pointwise() const { return activation >= BN2D_ACT_RELU6; }
  bool shows_side() const { return activation != BN2D_ACT_NONE && !is_pointwise() && !masks(); }
  bool bias_shows_side(const Tensor &z) const { return shows_side() && !z.defined(); }

  int64_t statistics(const Tensor &x) const { return groups ? x.size(0) * groups : x.size(1); }
  int64_t saved_length(const Tensor &x) const {
    const int64_t mask_bytes = x.size(0) * x.size(1) * ((x.size(2) * x.size(3) + 7) / 8);
    return 2 * statistics(x) + (masks() ? (mask_bytes + 7) / 8 : 0);
  }
};

// Where forward leaves mean, invstd and mask for backward: one tensor of doubles.
struct Saved {
  double *mean = nullptr, *invstd = nullptr;
  uint8_t *mask = nullptr;

  Saved(const Tensor &saved, const Tensor &x, const Settings &how) {
    if (!saved.defined()) return;
    static double nothing;  // of an empty batch, of which torch gives no address
    mean = saved.numel() ? saved.data_ptr<double>() : &nothing;
    invstd = mean + how.statistics(x);
    if (how.masks()) mask = reinterpret_cast<uint8_t *>(invstd + how.statistics(x));
  }
};

struct Call {
  Settings how;
  Tensor x, z, weight, bias, running_mean, running_var, counter;
  double factor, eps;
};

// y, and with `saved` what backward needs. Raises without having changed anything.
Tensor run_forward(const Call &call, Tensor *saved) {
  const Settings &how = call.how;
  Tensor y = new_like(call.x);
  if (saved) *saved = new_array(how.saved_length(call.x), at::kDouble);
  const View x(call.x), z(call.z), out(y);
  const Saved to(saved ? *saved : Tensor(), call.x, how);
  const int32_t dtype = dtype_number(how.parameters);
  void *weight = address(call.weight), *bias = address(call.bias);
  int32_t status;
  {
    WithoutGil released;
    status = how.groups ? library->group_norm_forward(x, z, out, how.groups, dtype, weight, bias,
                                                      call.eps, how.activation, how.slope, to.mask,
                                                      to.mean, to.invstd)
                        : library->batch_norm_forward(
                              x, z, out, dtype, weight, bias, address(call.running_mean),
                              address(call.running_var), how.batch_stats, call.factor, call.eps, 0,
                              how.activation, how.slope, to.mask, to.mean, to.invstd);
  }
  if (status) fail(status);
  return y;
}

// What backward was given and is to compute.
struct Gradients {
  Settings how;
  Tensor dy, x, weight, saved, y, z, bias;
  bool want_x, want_z, want_weight, want_bias;

  // The tensors may be others than forward saved: hooks exchange them, and `x.data = ...`.
  bool fit() const {
    return is_data(x) && dtypes_fit(x.scalar_type(), how.parameters) && is_like(dy, x) &&
           (!y.defined() || is_like(y, x)) && (!z.defined() || is_like(z, x)) &&
           (!weight.defined() || is_array(weight, x, how.parameters)) &&
           (!bias.defined() || is_array(bias, x, how.parameters)) && is_plain(saved) &&
           saved.scalar_type() == at::kDouble && saved.is_contiguous() &&
           saved.numel() == how.saved_length(x);
  }
};

variable_list run_backward(const Gradients &of) {
  const Settings &how = of.how;
  const Tensor dx = of.want_x ? new_like(of.x) : Tensor();
  const Tensor dz = of.want_z ? new_like(of.x) : Tensor();
  const Tensor dweight = of.want_weight ? new_array(of.x.size(1), how.parameters) : Tensor();
  const Tensor dbias = of.want_bias ? new_array(of.x.size(1), how.parameters) : Tensor();

  const View x(of.x), dy(of.dy), y(of.y), z(of.z), to_x(dx), to_z(dz);
  const Saved from(of.saved, of.x, how);
  const int32_t dtype = dtype_number(how.parameters);
  void *weight = address(of.weight), *bias = address(of.bias);
  void *to_weight = address(dweight), *to_bias = address(dbias);
  // Of other activations bias is kept where it shows the side.
  const bool of_argument = how.is_pointwise() || of.bias.defined();
  int32_t status;
  if (how.groups && of_argument)
    status = library->group_norm_backward_act(x, z, dy, y, from.mask, how.groups, dtype, weight,
                                              bias, from.mean, from.invstd, how.activation,
                                              how.slope, 0.0, to_x, to_z, to_weight, to_bias);
  else if (how.groups)
    status = library->group_norm_backward(x, dy, y, from.mask, how.groups, dtype, weight, from.mean,
                                          from.invstd, how.activation, how.slope, 0.0, to_x, to_z,
                                          to_weight, to_bias);
  else if (of_argument)
    status = library->batch_norm_backward_act(
        x, z, dy, y, from.mask, dtype, weight, bias, from.mean, from.invstd, how.batch_stats,
        how.activation, how.slope, 0.0, to_x, to_z, to_weight, to_bias);
  else
    status = library->batch_norm_backward(x, dy, y, from.mask, dtype, weight, from.mean,
                                          from.invstd, how.batch_stats, how.activation, how.slope,
                                          0.0, to_x, to_z, to_weight, to_bias);
  if (status) {
    WithGil held;
    fail(status);
  }
  return {dx, dz, dweight, dbias};
}

// The same by Python: backward with create_graph=True, and whatever is not plain.
variable_list run_backward_in_python(const Gradients &of) {
  const WithGil held;
  const Settings &how = of.how;
  const Object settings(Py_BuildValue("(OidLO)", torch::getTHPDtype(how.parameters), how.activation,
                                      how.slope, static_cast<long long>(how.groups),
                                      how.batch_stats ? Py_True : Py_False));
  const Object wants(Py_BuildValue("(NNNN)", PyBool_FromLong(of.want_x), PyBool_FromLong(of.want_z),
                                   PyBool_FromLong(of.want_weight), PyBool_FromLong(of.want_bias)));
  const Object found(PyObject_CallFunction(
      gradients_function, "OONNNNNNN", settings.get(), wants.get(), THPVariable_Wrap(of.dy),
      THPVariable_Wrap(of.x), THPVariable_Wrap(of.weight), THPVariable_Wrap(of.saved),
      THPVariable_Wrap(of.y), THPVariable_Wrap(of.z), THPVariable_Wrap(of.bias)));
  if (!found) throw_python_error();
  variable_list gradients;
  for (Py_ssize_t number = 0; number < 4; ++number) {
    PyObject *one = PyTuple_GET_ITEM(found.get(), number);
    gradients.push_back(one == Py_None ? Tensor() : THPVariable_Unpack(one));
  }
  return gradients;
}

// ---------------------------------------------------------------------------------------- autograd

using torch::autograd::AutogradContext;
using Optional = std::optional<Tensor>;

// torch's own class for functions: compiled autograd knows it, and its interface stays. A node like
// those of the code that torch generates would save 1.4 us a forward and 1.3 us a backward, 5 us
// each between other work.
class BatchNorm : public torch::autograd::Function<BatchNorm> {
 public:
  static Tensor forward(AutogradContext *context, const Tensor &x, const Optional &z,
                        const Optional &weight, const Optional &bias, const Call &call) {
    const Settings &how = call.how;
    Tensor saved, none;
    const Tensor y = run_forward(call, &saved);
    const bool inputs = how.is_pointwise(), tells = how.bias_shows_side(call.z);
    context->save_for_backward({x, call.weight, saved, how.shows_side() ? y : none,
                                inputs ? call.z : none, inputs || tells ? call.bias : none});
    // One list, for each entry of the dictionary costs; numbers this small are exact as doubles.
    const std::initializer_list<double> packed = {
        double(how.parameters),     double(how.activation),  how.slope,
        double(how.groups),         double(how.batch_stats), double(z.has_value()),
        double(weight.has_value()), double(bias.has_value())};
    context->saved_data["how"] = std::vector<double>(packed);
    return y;
  }

  static variable_list backward(AutogradContext *context, const variable_list &dys) {
    const variable_list kept = context->get_saved_variables();
    const std::vector<double> how = context->saved_data["how"].toDoubleVector();
    size_t edge = 0;  // of the inputs that are there, in their order
    const auto wants = [&](bool is_there) { return is_there && context->needs_input_grad(edge++); };
    const Gradients of{.how = {.parameters = ScalarType(how[0]),
                               .activation = int32_t(how[1]),
                               .slope = how[2],
                               .groups = int64_t(how[3]),
                               .batch_stats = how[4] != 0},
                       .dy = dys[0],
                       .x = kept[0],
                       .weight = kept[1],
                       .saved = kept[2],
                       .y = kept[3],
                       .z = kept[4],
                       .bias = kept[5],
                       .want_x = wants(true),
                       .want_z = wants(how[5] != 0),
                       .want_weight = wants(how[6] != 0),
                       .want_bias = wants(how[7] != 0)};
    const bool takes = !at::GradMode::is_enabled() && has_plain_modes() && of.fit();
    variable_list gradients = takes ? run_backward(of) : run_backward_in_python(of);
    gradients.emplace_back();  // of `call`
    return gradients;
  }
};

bool asks_for_gradients(const Call &call) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor *one : {&call.x, &call.z, &call.weight, &call.bias})
    if (one->defined() && one->requires_grad()) return true;
  return false;
}

Tensor run_with_gradients(const Call &call) {
  const auto optional = [](const Tensor &tensor) {
    return tensor.defined() ? Optional(tensor) : Optional();
  };
  return BatchNorm::apply(call.x, optional(call.z), optional(call.weight), optional(call.bias),
                          call);
}

// ------------------------------------------------------------------------------------------ Python

// The tensor of an argument, undefined of None; false for subclasses, which may mean other things.
bool take(PyObject *object, Tensor *tensor) {
  if (object == Py_None) return true;
  if (!THPVariable_CheckExact(object)) return false;
  *tensor = THPVariable_Unpack(object);
  return is_plain(*tensor);
}

// Whether autograd lets tensors be changed in place, or kept for backward: not those of inference
// mode outside of it.
bool has_versions(std::initializer_list<const Tensor *> tensors) {
  if (c10::InferenceMode::is_enabled()) return true;
  for (const Tensor *one : tensors)
    if (one->defined() && one->is_inference()) return false;
  return true;
}

// The arguments of forward().
enum Argument {
  kModule,
  kX,
  kZ,
  kWeight,
  kBias,
  kRunningMean,
  kRunningVar,
  kActivation,
  kSlope,
  kArguments
};

// The tensors of a call; false where the library does not take them as they are.
bool take_tensors(PyObject *const *arguments, Call *call) {
  if (!take(arguments[kX], &call->x) || !call->x.defined() || !is_data(call->x)) return false;
  if (!take(arguments[kZ], &call->z) || (call->z.defined() && !is_like(call->z, call->x)))
    return false;
  const std::pair<Argument, Tensor &> arrays[] = {{kWeight, call->weight},
                                                  {kBias, call->bias},
                                                  {kRunningMean, call->running_mean},
                                                  {kRunningVar, call->running_var}};
  ScalarType parameters = ScalarType::Undefined;
  for (const auto &[argument, array] : arrays) {
    if (!take(arguments[argument], &array)) return false;
    if (!array.defined()) continue;
    if (parameters == ScalarType::Undefined) parameters = array.scalar_type();
    if (!is_array(array, call->x, parameters)) return false;
  }
  call->how.parameters = parameters == ScalarType::Undefined ? call->x.scalar_type() : parameters;
  return dtypes_fit(call->x.scalar_type(), call->how.parameters);
}

// What the module's _mode(x, running_mean, running_var) says: which running statistics, whether the
// batch's, how they move, what counts, groups.
bool take_mode(PyObject *const *arguments, Call *call) {
  static PyObject *const mode_name = PyUnicode_InternFromString("_mode");
  static PyObject *const eps_name = PyUnicode_InternFromString("eps");
  PyObject *const module = arguments[kModule];
  PyObject *const given[] = {module, arguments[kX], arguments[kRunningMean],
                             arguments[kRunningVar]};
  Object mode(PyObject_VectorcallMethod(mode_name, given, 4, nullptr));
  if (!mode) throw_python_error();
  Object eps(PyObject_GetAttr(module, eps_name));
  if (!eps) throw_python_error();
  if (!PyTuple_CheckExact(mode.get()) || PyTuple_GET_SIZE(mode.get()) != 6) return false;
  const auto item = [&](Py_ssize_t number) { return PyTuple_GET_ITEM(mode.get(), number); };
  if (item(0) == Py_None) call->running_mean = Tensor();
  if (item(1) == Py_None) call->running_var = Tensor();
  call->how.batch_stats = item(2) == Py_True;
  call->factor = PyFloat_AsDouble(item(3));
  call->how.groups = PyLong_AsLongLong(item(5));
  call->eps = PyFloat_AsDouble(eps.get());
  if (PyErr_Occurred() || !take(item(4), &call->counter)) return false;
  if (call->how.groups < 0 || (call->how.groups && call->x.size(1) % call->how.groups))
    return false;
  if (!call->how.batch_stats) return true;
  if (call->how.groups && call->running_mean.defined()) return false;  // _calls._move
  const Tensor &counter = call->counter;
  return has_versions({&call->running_mean, &call->running_var, &counter}) &&
         (!counter.defined() || (counter.scalar_type() == at::kLong && counter.numel() == 1));
}

// After a call, so that one that fails changes nothing: counts, and tells autograd what has
// changed.
void have_moved(const Call &call) {
  if (!call.how.batch_stats) return;
  if (call.counter.defined()) ++*call.counter.data_ptr<int64_t>();
  for (const Tensor *one : {&call.running_mean, &call.running_var, &call.counter})
    if (one->defined()) one->unsafeGetTensorImpl()->bump_version();
}

// forward(module, x, z, weight, bias, running_mean, running_var, activation, slope): y, or None.
PyObject *forward(PyObject *, PyObject *const *arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  Call call{};
  if (count == kArguments && library && has_plain_modes() && take_tensors(arguments, &call) &&
      take_mode(arguments, &call)) {
    call.how.activation = static_cast<int32_t>(PyLong_AsLong(arguments[kActivation]));
    call.how.slope = PyFloat_AsDouble(arguments[kSlope]);
    const bool differentiates = asks_for_gradients(call);
    if (!PyErr_Occurred() &&
        (!differentiates || has_versions({&call.x, &call.z, &call.weight, &call.bias}))) {
      const Tensor y = differentiates ? run_with_gradients(call) : run_forward(call, nullptr);
      have_moved(call);
      return THPVariable_Wrap(y);
    }
  }
  PyErr_Clear();  // Python comes to the same error, and raises it.
  Py_RETURN_NONE;
  END_HANDLE_TH_ERRORS
}

// setup(address of the library's bn2d_api, fail, gradients)
PyObject *setup(PyObject *, PyObject *arguments) {
  unsigned long long table = 0;
  PyObject *fail = nullptr, *gradients = nullptr;
  if (!PyArg_ParseTuple(arguments, "KOO", &table, &fail, &gradients)) return nullptr;
  Py_INCREF(fail);
  Py_INCREF(gradients);
  fail_function = fail;
  gradients_function = gradients;
  library = reinterpret_cast<const bn2d_api *>(static_cast<uintptr_t>(table));
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"forward", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(forward)), METH_FASTCALL,
     nullptr},
    {"setup", setup, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace bn2d

PyMODINIT_FUNC PyInit__native() {
  PyObject *module = PyModule_Create(&bn2d::definition);
  if (module && PyModule_AddIntConstant(module, "API_VERSION", BN2D_API_VERSION) == 0)
    return module;
  Py_XDECREF(module);
  return nullptr;
}
