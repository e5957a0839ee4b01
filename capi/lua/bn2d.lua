-- SPDX-License-Identifier: MIT
-- Batch normalisation over (N, C, H, W) on the CPU, for LuaJIT. README.md tells how to use it.
local ffi = require("ffi")
ffi.cdef(require("bn2d_raw"))
local lib = ffi.load("libbn2d.so.1")

local bn2d = { raw = lib, version = ffi.string(lib.bn2d_version_string()) }

-- Errors are tables with `status` (the name) and `message`; tostring() gives both.
local Error = {}
Error.__index = Error
Error.__tostring = function(e) return e.status .. ": " .. e.message end

local function raise(status, message) error(setmetatable({ status = status, message = message }, Error), 0) end

local function check(status)
  if status == lib.BN2D_OK then return end
  raise(ffi.string(lib.bn2d_status_name(status)), ffi.string(lib.bn2d_last_error()))
end

local DTYPES = {
  f32 = { number = lib.BN2D_F32, array = "float[?]", pointer = "float *" },
  f64 = { number = lib.BN2D_F64, array = "double[?]", pointer = "double *" },
  f16 = { number = lib.BN2D_F16, array = "uint16_t[?]", pointer = "uint16_t *" },
  bf16 = { number = lib.BN2D_BF16, array = "uint16_t[?]", pointer = "uint16_t *" },
  i64 = { number = lib.BN2D_I64, array = "int64_t[?]", pointer = "int64_t *" },
}
local LAYOUTS = { nchw = lib.BN2D_NCHW, nhwc = lib.BN2D_NHWC }
local ACTIVATIONS = { none = lib.BN2D_ACT_NONE, relu = lib.BN2D_ACT_RELU, leaky_relu = lib.BN2D_ACT_LEAKY_RELU }

local function one_of(kinds, name, what)
  return kinds[name] or raise("BN2D_ERROR_INVALID_ARGUMENT", "no " .. what .. " is named '" .. tostring(name) .. "'")
end

-- New array of `length` elements, 0; of the bits for f16 and bf16.
function bn2d.array(length, dtype) return ffi.new(one_of(DTYPES, dtype or "f32", "dtype").array, length) end

-- An array must be one of bn2d.array() (whose size is known), of that dtype and length.
local function fit(name, array, dtype, length)
  if array == nil then return nil end
  if type(array) ~= "cdata" or not ffi.istype(DTYPES[dtype].array, array) then
    raise("BN2D_ERROR_DTYPE", name .. " is no array of " .. dtype)
  end
  local got = ffi.sizeof(array) / tonumber(lib.bn2d_dtype_size(DTYPES[dtype].number))
  if got ~= length then
    raise("BN2D_ERROR_SHAPE", string.format("%s has %d elements, must have %d", name, got, length))
  end
  return array
end

local function needed(name, array)
  return array ~= nil and array or raise("BN2D_ERROR_INVALID_ARGUMENT", name .. " is nil")
end

-- What a forward leaves for its backward; keeps x and y from the garbage collector.
local Record = {}
Record.__index = Record

-- Gives the handle back now; the garbage collector does so otherwise. Calling it twice is fine.
function Record:release()
  if self.handle then lib.bn2d_record_release(ffi.gc(self.handle, nil)) end
  self.handle, self.x, self.y = nil, nil, nil
end

local Module = {}
Module.__index = Module

-- options: eps, momentum (or "none"), affine, bias, track_running_stats, biased_running_var, protect_running_stats,
-- dtype ("f32", "f64", "f16", "bf16"), num_threads.
function bn2d.new(num_features, options)
  local out = ffi.new("bn2d_options *[1]")
  check(lib.bn2d_options_create(out))
  local settings = ffi.gc(out[0], lib.bn2d_options_release)
  for name, value in pairs(options or {}) do
    local text = type(value) == "number" and string.format("%.17g", value) or tostring(value)
    check(lib.bn2d_options_set_by_name(settings, name, text))
  end
  local module = ffi.new("bn2d_module *[1]")
  check(lib.bn2d_module_create(num_features, settings, module))
  local dtype = options and options.dtype or "f32"
  return setmetatable({ handle = ffi.gc(module[0], lib.bn2d_module_release), features = num_features, dtype = dtype }, Module)
end

function Module:release()
  if self.handle then lib.bn2d_module_release(ffi.gc(self.handle, nil)) end
  self.handle = nil
end

function Module:__tostring()
  local buffer = ffi.new("char[512]")
  check(lib.bn2d_module_repr(self.handle, buffer, 512, nil))
  return ffi.string(buffer)
end

function Module:train(training) check(lib.bn2d_module_train(self.handle, training == false and 0 or 1)) end
function Module:eval() check(lib.bn2d_module_eval(self.handle)) end
function Module:zero_grad() check(lib.bn2d_module_zero_grad(self.handle)) end
function Module:reset_running_stats() check(lib.bn2d_module_reset_running_stats(self.handle)) end
function Module:set_num_threads(threads) check(lib.bn2d_module_set_num_threads(self.handle, threads)) end

local function forward(self, x, n, h, w, y, options, record)
  options = options or {}
  local dtype, length = options.dtype or self.dtype, n * self.features * h * w
  one_of(DTYPES, dtype, "dtype")
  check(lib.bn2d_forward_flat(self.handle, DTYPES[dtype].number, one_of(LAYOUTS, options.layout or "nchw", "layout"),
    needed("x", fit("x", x, dtype, length)), fit("z", options.z, dtype, length), n, h, w,
    one_of(ACTIVATIONS, options.activation or "none", "activation"), options.slope or 0,
    needed("y", fit("y", y, dtype, length)), record))
  return dtype, length
end

-- y = activation(bn(x) + z), recorded. options: z, activation ("relu", "leaky_relu"), slope, layout ("nchw", "nhwc"),
-- dtype of the arrays where it is not the module's.
function Module:forward(x, n, h, w, y, options)
  local out = ffi.new("bn2d_record *[1]")
  local dtype, length = forward(self, x, n, h, w, y, options, out)
  return setmetatable({ handle = ffi.gc(out[0], lib.bn2d_record_release), x = x, y = y, dtype = dtype, length = length,
    layout = options and options.layout or "nchw" }, Record)
end

-- y = activation(bn(x) + z) in eval mode.
function Module:infer(x, n, h, w, y, options)
  local training = ffi.new("int32_t[1]")
  check(lib.bn2d_module_is_training(self.handle, training))
  if training[0] ~= 0 then raise("BN2D_ERROR_STATE", "infer needs eval mode, the module is in training mode") end
  forward(self, x, n, h, w, y, options, nil)
end

-- dx and dz (each may be nil) from dy; adds to weight.grad and bias.grad.
function Module:backward(record, dy, dx, dz)
  if not record.handle then raise("BN2D_ERROR_INVALID_HANDLE", "the record has been released") end
  local dtype, length = record.dtype, record.length
  check(lib.bn2d_backward_flat(self.handle, record.handle, DTYPES[dtype].number, LAYOUTS[record.layout],
    needed("dy", fit("dy", dy, dtype, length)), fit("dx", dx, dtype, length), fit("dz", dz, dtype, length)))
end

-- "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "weight.grad", "bias.grad": a table with
-- `data` (a pointer, from 0; read and write it while no call uses the module), `length` and `dtype`. The table keeps
-- the memory.
function Module:tensor(name)
  local out, dtype, bytes, data = ffi.new("bn2d_tensor *[1]"), ffi.new("int32_t[1]"), ffi.new("uint64_t[1]"), ffi.new("void *[1]")
  check(lib.bn2d_module_tensor_by_name(self.handle, name, out))
  local handle = ffi.gc(out[0], lib.bn2d_tensor_release)
  check(lib.bn2d_tensor_dtype(handle, dtype))
  check(lib.bn2d_tensor_nbytes(handle, bytes))
  check(lib.bn2d_tensor_data(handle, data))
  for short, kind in pairs(DTYPES) do
    if kind.number == dtype[0] then
      local length = tonumber(bytes[0] / lib.bn2d_dtype_size(dtype[0]))
      return { handle = handle, data = ffi.cast(kind.pointer, data[0]), length = length, dtype = short }
    end
  end
end

-- Limits the threads that one call uses, for the whole process; 0: all of oneTBB's.
function bn2d.set_num_threads(threads) check(lib.bn2d_set_num_threads(threads)) end

return bn2d
