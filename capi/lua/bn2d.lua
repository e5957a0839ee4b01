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
local SHORT = { "f32", "f64", "f16", "bf16", "i64" }
for long, short in pairs({ float32 = "f32", float64 = "f64", float16 = "f16", bfloat16 = "bf16", int64 = "i64" }) do
  DTYPES[short].name = short
  DTYPES[long] = DTYPES[short]
end
local LAYOUTS = {
  nchw = lib.BN2D_NCHW, nhwc = lib.BN2D_NHWC, channels_first = lib.BN2D_NCHW, channels_last = lib.BN2D_NHWC,
}
local ACTIVATIONS = {
  none = lib.BN2D_ACT_NONE, relu = lib.BN2D_ACT_RELU, leaky_relu = lib.BN2D_ACT_LEAKY_RELU, relu6 = lib.BN2D_ACT_RELU6,
  clamp = lib.BN2D_ACT_CLAMP, hardswish = lib.BN2D_ACT_HARDSWISH, silu = lib.BN2D_ACT_SILU, gelu = lib.BN2D_ACT_GELU,
  sigmoid = lib.BN2D_ACT_SIGMOID,
}
local FORWARD_OPTIONS = { z = true, activation = true, slope = true, layout = true, dtype = true }

local function invalid(message) raise("BN2D_ERROR_INVALID_ARGUMENT", message) end

local function one_of(kinds, name, what, status)
  if kinds[name] then return kinds[name] end
  local known = {}
  for one in pairs(kinds) do known[#known + 1] = one end
  table.sort(known)
  raise(status or "BN2D_ERROR_INVALID_ARGUMENT",
    "no " .. what .. " is named '" .. tostring(name) .. "'; known are " .. table.concat(known, ", "))
end

-- A value for a message: a string has quotes, as 4 is not "4"; a number has all its digits.
local function shown(value)
  if type(value) == "string" then return '"' .. value .. '"' end
  local text = tostring(value)
  if type(value) ~= "number" or tonumber(text) == value then return text end
  return string.format("%.17g", value)
end

-- The same with its type, for messages about types.
local function told(value)
  local kind = type(value)
  if kind == "string" or kind == "number" or kind == "boolean" then return "the " .. kind .. " " .. shown(value) end
  return "a " .. kind
end

-- LuaJIT would cut the fraction off, and wrap what is too large.
local function whole(name, value, most, least)
  most, least = most or 2 ^ 53, least or 0
  local inside = type(value) == "number" and value >= least and value <= most
  if inside and value == math.floor(value) then return value end
  local range = string.format("from %d to %.0f", least, most)
  invalid(name .. " must be a whole number " .. range .. ", is " .. shown(value))
end

-- How many channels or groups there are.
local function count(name, value) return whole(name, value, nil, 1) end

-- C takes a NUL for the end of a name.
local function name_of(what, name)
  if type(name) ~= "string" then invalid("the name of " .. what .. " is a " .. type(name)) end
  if name:find("\0", 1, true) then raise("BN2D_ERROR_NOT_FOUND", "a NUL is in the name of " .. what) end
  return name
end

-- New array of `length` elements, 0; of the bits for f16 and bf16.
function bn2d.array(length, dtype)
  local kind = one_of(DTYPES, dtype or "f32", "dtype")
  -- LuaJIT makes no larger one: its own errors are strings.
  local most = math.floor((2 ^ 31 - 1) / ffi.sizeof(kind.array, 1))
  whole("the length of an array of " .. kind.name, length, most)
  local made, array = pcall(ffi.new, kind.array, length)
  if made then return array end
  local wanted = string.format("no array of %d elements of %s: ", length, kind.name)
  raise("BN2D_ERROR_OUT_OF_MEMORY", wanted .. array)
end

-- What came where an array of bn2d.array() must be.
local function came(value)
  local kind = type(value)
  if kind == "string" or kind == "number" or kind == "boolean" then return shown(value) end
  if kind ~= "cdata" then return "a " .. kind end
  local kinds = {}
  for _, name in ipairs(SHORT) do
    if ffi.istype(DTYPES[name].array, value) then kinds[#kinds + 1] = name end
  end
  if kinds[1] then return "an array of " .. table.concat(kinds, " or ") end
  return "a " .. tostring(ffi.typeof(value)):match("^ctype<(.*)>$")
end

-- An array must be one of bn2d.array() (whose size is known), of that dtype and length.
local function fit(name, array, dtype, length)
  if array == nil then return nil end
  if type(array) ~= "cdata" or not ffi.istype(DTYPES[dtype].array, array) then
    local wanted = "an array of " .. dtype .. " from bn2d.array()"
    raise("BN2D_ERROR_DTYPE", name .. " is " .. came(array) .. ", must be " .. wanted)
  end
  local got = ffi.sizeof(array) / tonumber(lib.bn2d_dtype_size(DTYPES[dtype].number))
  if got ~= length then
    raise("BN2D_ERROR_SHAPE", string.format("%s has %d elements, must have %d", name, got, length))
  end
  return array
end

local function needed(name, array) return array ~= nil and array or invalid(name .. " is nil") end

-- What a forward leaves for its backward; keeps x, y and z from the garbage collector.
local Record = {}
Record.__index = Record

-- Gives the handle back now; the garbage collector does so otherwise. Calling it twice is fine.
function Record:release()
  if self.handle then lib.bn2d_record_release(ffi.gc(self.handle, nil)) end
  self.handle, self.x, self.y, self.z = nil, nil, nil, nil
end

local Module = {}
Module.__index = Module

local function table_or_none(options)
  if options ~= nil and type(options) ~= "table" then invalid("the options are a " .. type(options)) end
  return options or {}
end

-- The kinds of a module's options. The library reads texts, which "false" and "1e-3" are, too: here the type counts. It
-- tells of names that it does not know.
local BOOLEANS = {
  affine = true, bias = true, track_running_stats = true, biased_running_var = true, protect_running_stats = true,
}
local NUMBERS = { eps = true, momentum = true, num_threads = true, ghost_batch_size = true }

-- An option's value as text.
local function text_of(name, value)
  if BOOLEANS[name] then
    if type(value) ~= "boolean" then invalid("the option " .. name .. " must be a boolean, is " .. told(value)) end
  elseif NUMBERS[name] then
    if name == "momentum" and type(value) == "string" and value:lower() == "none" then return value end
    local wanted = name == "momentum" and 'a number or "none"' or "a number"
    if type(value) ~= "number" then invalid("the option " .. name .. " must be " .. wanted .. ", is " .. told(value)) end
    return string.format("%.17g", value)
  elseif name == "dtype" and type(value) ~= "string" then
    invalid("the option dtype must be a string, is " .. told(value))
  end
  return tostring(value)
end

local function alive(self) return self.handle or raise("BN2D_ERROR_INVALID_HANDLE", "the module has been released") end

local function create(features, options, make)
  options = table_or_none(options)
  local out = ffi.new("bn2d_options *[1]")
  check(lib.bn2d_options_create(out))
  local settings = ffi.gc(out[0], lib.bn2d_options_release)
  for name, value in pairs(options) do
    name = name_of("an option", name)
    check(lib.bn2d_options_set_by_name(settings, name, name_of("a value", text_of(name, value))))
  end
  local module, dtype = ffi.new("bn2d_module *[1]"), ffi.new("int32_t[1]")
  check(make(settings, module))
  local self = setmetatable({ handle = ffi.gc(module[0], lib.bn2d_module_release), features = features }, Module)
  check(lib.bn2d_module_dtype(self.handle, dtype))
  for _, kind in pairs(DTYPES) do
    if kind.number == dtype[0] then self.dtype = kind.name end
  end
  return self
end

-- A batch norm. options: eps, momentum (or "none"), affine, bias, track_running_stats,
-- biased_running_var, protect_running_stats, dtype ("f32", "f64", "f16", "bf16"), num_threads,
-- ghost_batch_size.
function bn2d.new(num_features, options)
  count("num_features", num_features)
  return create(num_features, options, function(o, out) return lib.bn2d_module_create(num_features, o, out) end)
end

-- The statistics of num_channels / num_groups channels of a sample; 1 group is a layer norm over
-- (C, H, W). options: eps, affine, bias, dtype, num_threads. infer needs eval mode all the same.
function bn2d.group_norm(num_groups, num_channels, options)
  count("num_groups", num_groups)
  count("num_channels", num_channels)
  return create(num_channels, options, function(o, out)
    return lib.bn2d_group_norm_create(num_groups, num_channels, o, out)
  end)
end

-- The statistics of each channel of each sample; options as of new(), affine and
-- track_running_stats are false.
function bn2d.instance_norm(num_features, options)
  count("num_features", num_features)
  return create(num_features, options, function(o, out)
    return lib.bn2d_instance_norm_create(num_features, o, out)
  end)
end

function Module:release()
  if self.handle then lib.bn2d_module_release(ffi.gc(self.handle, nil)) end
  self.handle = nil
end

function Module:__tostring()
  local buffer = ffi.new("char[512]")
  check(lib.bn2d_module_repr(alive(self), buffer, 512, nil))
  return ffi.string(buffer)
end

function Module:train(training)
  if training ~= nil and type(training) ~= "boolean" then invalid("the mode must be true or false") end
  check(lib.bn2d_module_train(alive(self), training == false and 0 or 1))
end
function Module:is_training()
  local training = ffi.new("int32_t[1]")
  check(lib.bn2d_module_is_training(alive(self), training))
  return training[0] ~= 0
end
function Module:eval() check(lib.bn2d_module_eval(alive(self))) end
function Module:zero_grad() check(lib.bn2d_module_zero_grad(alive(self))) end
function Module:reset_running_stats() check(lib.bn2d_module_reset_running_stats(alive(self))) end
function Module:set_num_threads(threads)
  check(lib.bn2d_module_set_num_threads(alive(self), whole("threads", threads, 2 ^ 31 - 1)))
end

-- The slope as the library takes it; nil: the default.
local function slope_of(activation, slope)
  if type(slope) == "number" then return slope end
  if slope ~= nil then invalid("slope must be a number, is " .. shown(slope)) end
  if activation == ACTIVATIONS.clamp then invalid("clamp needs slope, its upper bound") end
  return 0.01 -- PyTorch's of leaky_relu; the others ignore it
end

local function forward(self, x, n, h, w, y, options, record)
  local handle = alive(self)
  for name in pairs(options) do one_of(FORWARD_OPTIONS, name, "option", "BN2D_ERROR_NOT_FOUND") end
  local length = whole("n", n) * self.features * whole("h", h) * whole("w", w)
  if length > 2 ^ 53 then raise("BN2D_ERROR_OVERFLOW", "the product of the extents is too large") end
  local dtype = one_of(DTYPES, options.dtype or self.dtype, "dtype").name
  local activation = one_of(ACTIVATIONS, options.activation or "none", "activation")
  check(lib.bn2d_forward_flat(handle, DTYPES[dtype].number, one_of(LAYOUTS, options.layout or "nchw", "layout"),
    needed("x", fit("x", x, dtype, length)), fit("z", options.z, dtype, length), n, h, w,
    activation, slope_of(activation, options.slope),
    needed("y", fit("y", y, dtype, length)), record))
  return dtype, length
end

-- y = activation(bn(x) + z), recorded. options: z, activation (README.md has the names), slope (of
-- "leaky_relu", 0.01 by default; of "clamp", the upper bound, required), layout ("nchw", "nhwc"),
-- dtype of the arrays where it is not the module's.
function Module:forward(x, n, h, w, y, options)
  options = table_or_none(options)
  local out = ffi.new("bn2d_record *[1]")
  local dtype, length = forward(self, x, n, h, w, y, options, out)
  return setmetatable({ handle = ffi.gc(out[0], lib.bn2d_record_release), x = x, y = y, z = options.z, dtype = dtype,
    length = length, layout = options.layout or "nchw" }, Record)
end

-- y = activation(bn(x) + z) in eval mode.
function Module:infer(x, n, h, w, y, options)
  if self:is_training() then raise("BN2D_ERROR_STATE", "infer needs eval mode, the module is in training mode") end
  forward(self, x, n, h, w, y, table_or_none(options), nil)
end

-- dx and dz (each may be nil) from dy; adds to weight.grad and bias.grad.
function Module:backward(record, dy, dx, dz)
  if getmetatable(record) ~= Record then raise("BN2D_ERROR_INVALID_HANDLE", "no record") end
  if not record.handle then raise("BN2D_ERROR_INVALID_HANDLE", "the record has been released") end
  local dtype, length = record.dtype, record.length
  check(lib.bn2d_backward_flat(alive(self), record.handle, DTYPES[dtype].number, LAYOUTS[record.layout],
    needed("dy", fit("dy", dy, dtype, length)), fit("dx", dx, dtype, length), fit("dz", dz, dtype, length)))
end

-- "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "weight.grad", "bias.grad": a table with
-- `data` (a pointer, from 0; read and write it while no call uses the module), `length` and `dtype`. The table keeps
-- the memory.
function Module:tensor(name)
  local out, dtype, bytes, data = ffi.new("bn2d_tensor *[1]"), ffi.new("int32_t[1]"), ffi.new("uint64_t[1]"), ffi.new("void *[1]")
  check(lib.bn2d_module_tensor_by_name(alive(self), name_of("a tensor", name), out))
  local handle = ffi.gc(out[0], lib.bn2d_tensor_release)
  check(lib.bn2d_tensor_dtype(handle, dtype))
  check(lib.bn2d_tensor_nbytes(handle, bytes))
  check(lib.bn2d_tensor_data(handle, data))
  for _, kind in pairs(DTYPES) do
    if kind.number == dtype[0] then
      local length = tonumber(bytes[0] / lib.bn2d_dtype_size(dtype[0]))
      return { handle = handle, data = ffi.cast(kind.pointer, data[0]), length = length, dtype = kind.name }
    end
  end
end

-- Limits the threads that one call uses, for the whole process; 0: all of oneTBB's.
function bn2d.set_num_threads(threads)
  check(lib.bn2d_set_num_threads(whole("threads", threads, 2 ^ 31 - 1)))
end

return bn2d
