-- The values of vectors.txt (vectors.cc tells how they are made) through capi/lua, errors, and handles given back.
local ffi = require("ffi")
local bn2d = require("bn2d")

local CHANNELS, SIZE = 64, 8 * 64 * 32 * 32

-- x and dy in the order of memory; `store` puts a number into an array.
local function inputs(dtype, channels_last, store)
  local x, dy, s = bn2d.array(SIZE, dtype), bn2d.array(SIZE, dtype), 1
  for i = 0, SIZE - 1 do
    local c = channels_last and i % CHANNELS or math.floor(i / 1024) % CHANNELS
    s = s * 16807 % 2147483647
    store(x, i, (s % 128 + 2 * c - 128) / 64)
  end
  for i = 0, SIZE - 1 do
    s = s * 16807 % 2147483647
    store(dy, i, (s % 256 - 128) / 64)
  end
  return x, dy
end

local function affine(bn)
  local weight, bias = bn:tensor("weight").data, bn:tensor("bias").data
  for c = 0, CHANNELS - 1 do
    weight[c], bias[c] = (c % 16 + 8) / 16, (c % 8 - 4) / 4
  end
end

-- Compares with every line of a case; arrays: name -> { function of the index, length }.
local function compare(case, arrays, expected)
  local seen = 0
  for line in io.lines(os.getenv("BN2D_VECTORS")) do
    local name, array, index, value, tolerance = line:match("^(%w+) (%S+) (%S+) (%S+) (%S+)$")
    if name == case then
      local at, length, got = arrays[array][1], arrays[array][2], 0
      if index == "sum" then
        for i = 0, length - 1 do got = got + at(i) * (i % 11 - 5) end
      else
        got = at(tonumber(index))
      end
      assert(math.abs(got - tonumber(value)) <= tonumber(tolerance), line .. ": got " .. got)
      seen = seen + 1
    end
  end
  assert(seen == expected, case .. ": " .. seen .. " lines")
end

local function reader(array, length) return { function(i) return tonumber(array[i]) end, length } end

for _, case in ipairs({ "f32", "f64" }) do
  local x, dy = inputs(case, false, function(array, i, v) array[i] = v end)
  local y, dx, later = bn2d.array(SIZE, case), bn2d.array(SIZE, case), bn2d.array(SIZE, case)
  local bn = bn2d.new(CHANNELS, { dtype = case })
  affine(bn)
  bn:backward(bn:forward(x, 8, 32, 32, y), dy, dx)
  assert(bn:is_training() == true)
  bn:eval()
  assert(bn:is_training() == false)
  bn:infer(x, 8, 32, 32, later)
  local arrays = { y = reader(y, SIZE), dx = reader(dx, SIZE), ["eval.y"] = reader(later, SIZE) }
  for _, name in ipairs({ "weight.grad", "bias.grad", "running_mean", "running_var" }) do
    arrays[name] = reader(bn:tensor(name).data, bn:tensor(name).length)
  end
  compare(case, arrays, 58)
  assert(bn:tensor("num_batches_tracked").data[0] == 1)
end

-- bfloat16 is the upper half of a float.
do
  local float, bits = ffi.new("union { float f; uint32_t u; }"), require("bit")
  local x, dy = inputs("bf16", true, function(array, i, v)
    float.f = v
    array[i] = bits.rshift(float.u, 16)
  end)
  local function bf16(array)
    return { function(i)
      float.u = array[i] * 65536
      return float.f
    end, SIZE }
  end
  local y, dx, dz = bn2d.array(SIZE, "bf16"), bn2d.array(SIZE, "bf16"), bn2d.array(SIZE, "bf16")
  local bn = bn2d.new(CHANNELS)
  affine(bn)
  local record = bn:forward(x, 8, 32, 32, y, { z = dy, activation = "relu", layout = "nhwc", dtype = "bf16" })
  bn:backward(record, dy, dx, dz)
  local mean = bn:tensor("running_mean")
  compare("bf16", { y = bf16(y), dx = bf16(dx), dz = bf16(dz), running_mean = reader(mean.data, 64) }, 37)
end

-- Errors.
local function fails(status, message, call, ...)
  local ok, e = pcall(call, ...)
  assert(not ok, "no error")
  assert(e.status == status, tostring(e))
  assert(e.message:find(message, 1, true), tostring(e))
end
do
  local bn, x = bn2d.new(3), bn2d.array(3)
  local y = bn2d.array(3)
  fails("BN2D_ERROR_TOO_FEW_VALUES", "batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)",
    bn.forward, bn, x, 1, 1, 1, y)
  fails("BN2D_ERROR_SHAPE", "x has 3 elements, must have 6", bn.forward, bn, x, 1, 1, 2, bn2d.array(6))
  fails("BN2D_ERROR_DTYPE", "y is an array of f64, must be an array of f32 from bn2d.array()",
    bn.forward, bn, x, 1, 1, 1, bn2d.array(3, "f64"))
  -- The message says what came, whatever it is.
  for _, case in ipairs({
    { { 1, 2, 3 }, "x is a table" }, { "abc", 'x is "abc"' },
    { 3, "x is 3" }, { print, "x is a function" },
    { ffi.new("float[3]"), "x is a float [3]" }, { ffi.new("float *", x), "x is a float *" },
    { bn2d.array(3, "bf16"), "x is an array of f16 or bf16" },
    { bn2d.array(3, "i64"), "x is an array of i64" },
  }) do
    local message = case[2] .. ", must be an array of f32"
    fails("BN2D_ERROR_DTYPE", message, bn.forward, bn, case[1], 1, 1, 1, y)
  end
  fails("BN2D_ERROR_INVALID_ARGUMENT", "y is nil", bn.forward, bn, x, 1, 1, 1, nil)
  fails("BN2D_ERROR_NOT_FOUND", "gamma", bn.tensor, bn, "gamma")
  fails("BN2D_ERROR_STATE", "eval mode", bn.infer, bn, x, 1, 1, 1, y)
  fails("BN2D_ERROR_INVALID_ARGUMENT", "1.5", bn2d.new, 3, { momentum = 1.5 })
  fails("BN2D_ERROR_NOT_FOUND", "epsilon", bn2d.new, 3, { epsilon = 1 })
  -- Nor is a text read as a boolean or number, nor a number as a boolean.
  for _, case in ipairs({
    { { affine = 0 }, "the option affine must be a boolean, is the number 0" },
    { { bias = "false" }, 'the option bias must be a boolean, is the string "false"' },
    { { track_running_stats = {} }, "the option track_running_stats must be a boolean, is a table" },
    { { biased_running_var = 1 }, "the option biased_running_var must be a boolean, is the number 1" },
    { { protect_running_stats = "1" }, 'the option protect_running_stats must be a boolean, is the string "1"' },
    { { eps = "1e-3" }, 'the option eps must be a number, is the string "1e-3"' },
    { { momentum = "0.2" }, 'the option momentum must be a number or "none", is the string "0.2"' },
    { { momentum = false }, 'the option momentum must be a number or "none", is the boolean false' },
    { { num_threads = true }, "the option num_threads must be a number, is the boolean true" },
    { { ghost_batch_size = "2" }, 'the option ghost_batch_size must be a number, is the string "2"' },
    { { dtype = 32 }, "the option dtype must be a string, is the number 32" },
  }) do
    fails("BN2D_ERROR_INVALID_ARGUMENT", case[2], bn2d.new, 3, case[1])
  end
  local set = tostring(bn2d.new(3, { affine = false, eps = 1e-3, momentum = "none", num_threads = 1, dtype = "f64" }))
  assert(set == "BatchNorm2d(3, eps=0.001, momentum=None, affine=False, track_running_stats=True)", set)
  fails("BN2D_ERROR_INVALID_ARGUMENT",
    "no activation is named 'tanh'; known are clamp, gelu, hardswish, leaky_relu, none, relu, relu6, sigmoid, silu",
    bn.forward, bn, x, 1, 1, 1, y, { activation = "tanh" })
  fails("BN2D_ERROR_INVALID_ARGUMENT", "no layout is named 'nwhc'; known are channels_first, channels_last, nchw, nhwc",
    bn.forward, bn, x, 1, 1, 1, y, { layout = "nwhc" })
  fails("BN2D_ERROR_INVALID_ARGUMENT", "no dtype is named 'half'; known are bf16, bfloat16, f16, f32",
    bn2d.array, 3, "half")

  -- What is no whole number, option, name or table is an error, not something else.
  local six, large = bn2d.array(6), bn2d.array(6)
  fails("BN2D_ERROR_INVALID_ARGUMENT", "n must be a whole number from 0 to 9007199254740992, is 0.5",
    bn.forward, bn, six, 0.5, 4, 1, large)
  fails("BN2D_ERROR_INVALID_ARGUMENT", "h must be a whole number", bn.forward, bn, six, 1, -1, -2, large)
  fails("BN2D_ERROR_INVALID_ARGUMENT", "w must be a whole number", bn.forward, bn, bn2d.array(0), 0, 1, 2 ^ 64, large)
  fails("BN2D_ERROR_OVERFLOW", "too large", bn.forward, bn, six, 2 ^ 50, 2 ^ 50, 1, large)
  -- 4 is told from "4", and there is no norm of 0 channels.
  local function least(name, is, ...)
    local range = " must be a whole number from 1 to 9007199254740992, is "
    fails("BN2D_ERROR_INVALID_ARGUMENT", name .. range .. is, ...)
  end
  least("num_features", "1.5", bn2d.new, 1.5)
  least("num_features", "nil", bn2d.new)
  least("num_features", '"4"', bn2d.new, "4")
  least("num_features", "9007199254740994", bn2d.new, 2 ^ 53 + 2)
  least("num_features", "0", bn2d.instance_norm, 0)
  least("num_groups", "0", bn2d.group_norm, 0, 4)
  least("num_channels", "-1", bn2d.group_norm, 1, -1)
  -- LuaJIT's own error of an array that is too large is a string.
  local function most(dtype, length, is)
    local text = "the length of an array of %s must be a whole number from 0 to %d, is %s"
    local message = text:format(dtype, 2 ^ 31 / (dtype == "i64" and 8 or 4) - 1, is)
    fails("BN2D_ERROR_INVALID_ARGUMENT", message, bn2d.array, length, dtype)
  end
  most("f32", 1.5, "1.5")
  most("f32", 2 ^ 31, "2147483648")
  most("f32", 2 ^ 29, "536870912")
  most("i64", 2 ^ 28, "268435456")
  fails("BN2D_ERROR_INVALID_ARGUMENT", "threads must be", bn.set_num_threads, bn, 2 ^ 32)
  fails("BN2D_ERROR_INVALID_ARGUMENT", "true or false", bn.train, bn, 0)
  fails("BN2D_ERROR_INVALID_ARGUMENT", 'slope must be a number, is "0.2"',
    bn.forward, bn, six, 1, 1, 2, large, { slope = "0.2" })
  fails("BN2D_ERROR_NOT_FOUND", "no option is named 'activaton'; known are activation, dtype, layout, slope, z",
    bn.forward, bn, six, 1, 1, 2, large, { activaton = "relu" })
  fails("BN2D_ERROR_INVALID_ARGUMENT", "string", bn.forward, bn, six, 1, 1, 2, large, "relu")
  fails("BN2D_ERROR_NOT_FOUND", "NUL", bn.tensor, bn, "weight\0zz")
  fails("BN2D_ERROR_NOT_FOUND", "NUL", bn2d.new, 3, { ["eps\0zz"] = 1 })
  fails("BN2D_ERROR_INVALID_ARGUMENT", "nil", bn.tensor, bn)
  fails("BN2D_ERROR_INVALID_HANDLE", "no record", bn.backward, bn, nil, six, large)
  local last, same, dx, again = bn2d.array(6), bn2d.array(6), bn2d.array(6), bn2d.array(6)
  for i = 0, 5 do six[i] = i * i end
  bn:backward(bn:forward(six, 1, 1, 2, last, { layout = "nhwc", activation = "relu" }), six, dx)
  bn:backward(bn:forward(six, 1, 1, 2, same, { layout = "channels_last", activation = "relu" }), six, again)
  bn:forward(six, 1, 1, 2, large, { layout = "channels_first" })
  for i = 0, 5 do assert(last[i] == same[i] and dx[i] == again[i], "channels_last") end
  assert(large[1] ~= last[1], "channels_first")
  local long = bn2d.new(3, { dtype = "float32" })
  long:forward(six, 1, 1, 2, large, { dtype = "float32" })
  long:forward(six, 1, 1, 2, large)
  assert(long:tensor("weight").dtype == "f32")

  bn:release()
  bn:release()
  for _, call in ipairs({ bn.eval, bn.train, bn.zero_grad, bn.forward, bn.infer, tostring }) do
    fails("BN2D_ERROR_INVALID_HANDLE", "the module has been released", call, bn)
  end
end

-- Each activation by its name, of v = x: eval mode on running statistics of 0 and 1.
do
  local function clamp(v, low, high) return math.min(math.max(v, low), high) end
  local gelu = { [-4] = -0.000126685, [-1] = -0.158655254, [0.5] = 0.345731231, [8] = 8 }
  local cases = {
    none = function(v) return v end,
    relu = function(v) return math.max(v, 0) end,
    leaky_relu = function(v) return v > 0 and v or 2 * v end,
    relu6 = function(v) return clamp(v, 0, 6) end,
    clamp = function(v) return clamp(v, 0, 2) end,
    hardswish = function(v) return v * clamp(v + 3, 0, 6) / 6 end,
    silu = function(v) return v / (1 + math.exp(-v)) end,
    gelu = function(v) return gelu[v] end,
    sigmoid = function(v) return 1 / (1 + math.exp(-v)) end,
  }
  local bn, x, y = bn2d.new(1, { eps = 0, dtype = "f64" }), bn2d.array(4, "f64"), bn2d.array(4, "f64")
  x[0], x[1], x[2], x[3] = -4, -1, 0.5, 8
  bn:eval()
  for activation, of in pairs(cases) do
    bn:infer(x, 1, 2, 2, y, { activation = activation, slope = 2 })
    for i = 0, 3 do assert(math.abs(y[i] - of(x[i])) < 1e-8, activation .. " of " .. x[i] .. ": " .. y[i]) end
  end
  bn:infer(x, 1, 2, 2, y, { activation = "leaky_relu" })
  assert(y[0] == -0.04 and y[1] == -0.01 and y[2] == 0.5, "leaky_relu without a slope: " .. y[0])
  fails("BN2D_ERROR_INVALID_ARGUMENT", "clamp needs slope, its upper bound",
    bn.infer, bn, x, 1, 2, 2, y, { activation = "clamp" })
end

-- Group, instance and ghost batch norm, told apart by y.
do
  local function gives(norm, values, n, w, expected)
    local x, y = bn2d.array(4), bn2d.array(4)
    for i = 0, 3 do x[i] = values[i + 1] end
    norm:backward(norm:forward(x, n, 1, w, y), x, bn2d.array(4))
    for i = 0, 3 do assert(math.abs(y[i] - expected[i + 1]) < 1e-4, tostring(norm) .. ": " .. y[i]) end
    return norm
  end
  local samples, alike = { 0, 2, 10, 12 }, { -1, 1, -1, 1 }
  local group = gives(bn2d.group_norm(1, 2), { 0, 0, 2, 2 }, 1, 2, { -1, -1, 1, 1 })
  local instance = gives(bn2d.instance_norm(1), samples, 2, 2, alike)
  local ghost = gives(bn2d.new(1, { ghost_batch_size = 1 }), samples, 2, 2, alike)
  assert(ghost:tensor("num_batches_tracked").data[0] == 2)
  assert(tostring(group):find("GroupNorm(1, 2", 1, true) == 1, tostring(group))
  assert(group:tensor("weight").length == 2)
  fails("BN2D_ERROR_NOT_FOUND", "weight", instance.tensor, instance, "weight")
  bn2d.instance_norm(1, { affine = true, track_running_stats = true }):tensor("running_mean")
  fails("BN2D_ERROR_INVALID_ARGUMENT", "momentum", bn2d.group_norm, 1, 2, { momentum = 0.1 })
  fails("BN2D_ERROR_INVALID_ARGUMENT", "3", bn2d.group_norm, 2, 3)
end

-- Pointwise activations have their argument made again in backward: the record keeps z, too.
do
  local length = 3000
  local function filled(f)
    local array = bn2d.array(length)
    for i = 0, length - 1 do array[i] = f(i) end
    return array
  end
  local function z_of(i) return i * 17 % 23 / 10 - 1 end
  local x, dy = filled(function(i) return i * 37 % 101 / 10 - 5 end), filled(function(i) return i * 13 % 29 / 10 - 1 end)
  local bn, expected, dx = bn2d.new(3), bn2d.array(length), bn2d.array(length)
  local function forward() return bn:forward(x, 10, 10, 10, bn2d.array(length), { z = filled(z_of), activation = "silu" }) end
  bn:backward(forward(), dy, expected)
  local kept = forward()
  for _ = 1, 20 do
    collectgarbage()
    for _ = 1, 20 do filled(function() return 777 end) end
  end
  bn:backward(kept, dy, dx)
  for i = 0, length - 1 do assert(dx[i] == expected[i], "z was gone") end
end

-- A record outlives its module, keeps its x, and 10 000 of each leave nothing behind.
do
  local function resident()
    local kilobytes = 0
    for line in io.lines("/proc/self/status") do kilobytes = tonumber(line:match("^VmRSS:%s*(%d+)")) or kilobytes end
    return kilobytes
  end
  local function round()
    for i = 1, 2500 do
      local bn, y = bn2d.new(256), bn2d.array(256 * 8)
      local record = bn:forward(bn2d.array(256 * 8), 2, 2, 2, y)
      if i % 2 == 0 then bn = nil end
      if i % 100 == 0 then collectgarbage() end
    end
    collectgarbage()
    collectgarbage()
  end
  round()
  local before = resident()
  for _ = 1, 3 do round() end
  assert(resident() < before + 20000, "memory grows from " .. before .. " to " .. resident() .. " kB")

  local bn = bn2d.new(3)
  local record = bn:forward(bn2d.array(6), 1, 1, 2, bn2d.array(6))
  collectgarbage()
  bn:backward(record, bn2d.array(6), bn2d.array(6))
  record:release()
  record:release()
  fails("BN2D_ERROR_INVALID_HANDLE", "released", bn.backward, bn, record, bn2d.array(6), bn2d.array(6))
end
print("vectors.lua: all held")
