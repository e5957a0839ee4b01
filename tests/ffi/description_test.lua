-- bn2d.cdef as LuaJIT takes it: luajit description_test.lua <bn2d.cdef> <libbn2d.so>
local ffi = require("ffi")
local file = assert(io.open(arg[1]))
ffi.cdef(file:read("*a"))
file:close()
local bn2d = ffi.load(arg[2])

local function check(status)
  if status ~= 0 then error(ffi.string(bn2d.bn2d_last_error())) end
end

assert(bn2d.BN2D_ERROR_SHAPE == -4)
assert(ffi.sizeof("bn2d_view") == 48)
assert(bn2d.bn2d_get_api(bn2d.BN2D_API_VERSION).size == ffi.sizeof("bn2d_api"))

local out = ffi.new("bn2d_module *[1]")
check(bn2d.bn2d_module_create(2, nil, out))
local module = ffi.gc(out[0], bn2d.bn2d_module_release)
local x, y = ffi.new("float[8]", {1, 3, 10, 20, 5, 7, 30, 40}), ffi.new("float[8]")
check(bn2d.bn2d_forward_f32(module, x, 2, 1, 2, y, nil))
assert(math.abs(y[0] + 3 / math.sqrt(5)) < 1e-5, y[0]) -- mean 4, variance 5
local good, message = pcall(check, bn2d.bn2d_module_train(module, 7))
assert(not good and message:find("training is 7"), message)
print("LuaJIT", jit.version)
