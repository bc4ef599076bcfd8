// Kernels of the measuring suite: plain CUDA C++ without any header, for NVRTC and nvcc alike, from compute capability 8.0.
// Each has a NumPy twin of the same function (twins.py). Yardsticks, not records: matrix products here use no tensor cores.
// PERFBOARD_HOST: built by a C++ compiler for the tests, which provide threadIdx, barriers and shuffles.

typedef unsigned short half_t;
typedef unsigned int word_t;
typedef unsigned char byte_t;

#ifndef PERFBOARD_HOST
__device__ __forceinline__ float to_float(half_t h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }
__device__ __forceinline__ half_t to_half(float f) { half_t h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h; }
#endif

#define WARP 32
#define THREADS 256
#define EVERY 0xffffffffu

struct __align__(16) Eight { half_t v[8]; };
struct __align__(8) Four { half_t v[4]; };
struct __align__(16) Words { word_t v[4]; };

__device__ __forceinline__ float warp_sum(float v) {
    for (int o = WARP / 2; o > 0; o >>= 1) v += __shfl_xor_sync(EVERY, v, o);
    return v;
}
__device__ __forceinline__ int warp_sum_int(int v) {
    for (int o = WARP / 2; o > 0; o >>= 1) v += __shfl_xor_sync(EVERY, v, o);
    return v;
}
__device__ __forceinline__ float block_sum(float v, float* shared) {
    shared[threadIdx.x] = v;
    __syncthreads();
    for (int s = THREADS / 2; s > 0; s >>= 1) {
        if (threadIdx.x < s) shared[threadIdx.x] += shared[threadIdx.x + s];
        __syncthreads();
    }
    float total = shared[0];
    __syncthreads();
    return total;
}
__device__ __forceinline__ float block_max(float v, float* shared) {
    shared[threadIdx.x] = v;
    __syncthreads();
    for (int s = THREADS / 2; s > 0; s >>= 1) {
        if (threadIdx.x < s) shared[threadIdx.x] = fmaxf(shared[threadIdx.x], shared[threadIdx.x + s]);
        __syncthreads();
    }
    float top = shared[0];
    __syncthreads();
    return top;
}

// -- launches, copies ------------------------------------------------------------------------------------------------

extern "C" __global__ void empty(int n) { (void)n; }

#ifndef PERFBOARD_HOST
// Holds the queue while the host enqueues, so that what follows runs back to back.
extern "C" __global__ void spin(long long cycles) { long long t = clock64(); while (clock64() - t < cycles) {} }
#endif

extern "C" __global__ void strided_copy(float* out, const float* in, long long n, int stride) {
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        out[i] = in[i * stride];
}

// -- elementwise on fp16, 16 bytes a thread and turn -------------------------------------------------------------------

__device__ __forceinline__ float act_gelu(float x) { return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); }
__device__ __forceinline__ float act_silu(float x) { return x / (1.0f + expf(-x)); }

#define UNARY(name, value)                                                                                          \
    extern "C" __global__ void name(half_t* out, const half_t* in, long long n) {                                   \
        for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n / 8; i += (long long)gridDim.x * blockDim.x) { \
            Eight a = ((const Eight*)in)[i], c;                                                                     \
            for (int j = 0; j < 8; ++j) { float x = to_float(a.v[j]); c.v[j] = to_half(value); }                    \
            ((Eight*)out)[i] = c;                                                                                   \
        }                                                                                                           \
    }
#define BINARY(name, value)                                                                                         \
    extern "C" __global__ void name(half_t* out, const half_t* in, const half_t* other, long long n) {              \
        for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n / 8; i += (long long)gridDim.x * blockDim.x) { \
            Eight a = ((const Eight*)in)[i], b = ((const Eight*)other)[i], c;                                       \
            for (int j = 0; j < 8; ++j) { float x = to_float(a.v[j]), y = to_float(b.v[j]); c.v[j] = to_half(value); } \
            ((Eight*)out)[i] = c;                                                                                   \
        }                                                                                                           \
    }
UNARY(relu, fmaxf(x, 0.0f))
UNARY(gelu, act_gelu(x))
BINARY(add, x + y)
BINARY(silu_mul, act_silu(x) * y)

// -- row-wise on fp16: a block of THREADS a row, cols a multiple of 8 ----------------------------------------------------

extern "C" __global__ void reduce(half_t* out, const half_t* in, int cols) {
    __shared__ float shared[THREADS];
    const Eight* row = (const Eight*)(in + (long long)blockIdx.x * cols);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) { Eight a = row[i]; for (int j = 0; j < 8; ++j) sum += to_float(a.v[j]); }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) out[blockIdx.x] = to_half(sum);
}

extern "C" __global__ void rmsnorm(half_t* out, const half_t* in, int cols) {
    __shared__ float shared[THREADS];
    const Eight* row = (const Eight*)(in + (long long)blockIdx.x * cols);
    Eight* to = (Eight*)(out + (long long)blockIdx.x * cols);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) {
        Eight a = row[i];
        for (int j = 0; j < 8; ++j) { float x = to_float(a.v[j]); sum += x * x; }
    }
    float scale = rsqrtf(block_sum(sum, shared) / cols + 1e-5f);
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) {
        Eight a = row[i];
        for (int j = 0; j < 8; ++j) a.v[j] = to_half(to_float(a.v[j]) * scale);
        to[i] = a;
    }
}

extern "C" __global__ void layernorm(half_t* out, const half_t* in, int cols) {
    __shared__ float shared[THREADS];
    const Eight* row = (const Eight*)(in + (long long)blockIdx.x * cols);
    Eight* to = (Eight*)(out + (long long)blockIdx.x * cols);
    float sum = 0.0f, squares = 0.0f;
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) { Eight a = row[i]; for (int j = 0; j < 8; ++j) sum += to_float(a.v[j]); }
    float mean = block_sum(sum, shared) / cols;
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) {
        Eight a = row[i];
        for (int j = 0; j < 8; ++j) { float d = to_float(a.v[j]) - mean; squares += d * d; }
    }
    float scale = rsqrtf(block_sum(squares, shared) / cols + 1e-5f);
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) {
        Eight a = row[i];
        for (int j = 0; j < 8; ++j) a.v[j] = to_half((to_float(a.v[j]) - mean) * scale);
        to[i] = a;
    }
}

extern "C" __global__ void softmax(half_t* out, const half_t* in, int cols) {
    __shared__ float shared[THREADS];
    const Eight* row = (const Eight*)(in + (long long)blockIdx.x * cols);
    Eight* to = (Eight*)(out + (long long)blockIdx.x * cols);
    float top = -1e30f, sum = 0.0f;
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) { Eight a = row[i]; for (int j = 0; j < 8; ++j) top = fmaxf(top, to_float(a.v[j])); }
    top = block_max(top, shared);
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) { Eight a = row[i]; for (int j = 0; j < 8; ++j) sum += expf(to_float(a.v[j]) - top); }
    float scale = 1.0f / block_sum(sum, shared);
    for (int i = threadIdx.x; i < cols / 8; i += THREADS) {
        Eight a = row[i];
        for (int j = 0; j < 8; ++j) a.v[j] = to_half(expf(to_float(a.v[j]) - top) * scale);
        to[i] = a;
    }
}

// -- fused decode attention, fp16, head dimension 128 ------------------------------------------------------------------
// Grid (batch * kv_heads, splits), 4 warps a block: each warp takes every fourth key of its split for all query heads of
// the KV head; a lane holds 4 of 128 dimensions. Partial results: maximum, sum and 128 weighted values a (head, split).

#define DIM 128
#define WARPS 4
#define PART (DIM + 2)

template <int GROUP>
__device__ void attend(float* part, const half_t* q, const half_t* k, const half_t* v, int length, int splits) {
    __shared__ float share[WARPS][GROUP][PART];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, split = blockIdx.y;
    long long pair = blockIdx.x;
    int per = (length + splits - 1) / splits, first = split * per, last = min(first + per, length);
    float mine[GROUP][4], acc[GROUP][4], top[GROUP], sum[GROUP];
    for (int g = 0; g < GROUP; ++g) {
        Four f = ((const Four*)(q + (pair * GROUP + g) * DIM))[lane];
        for (int j = 0; j < 4; ++j) { mine[g][j] = to_float(f.v[j]) * 0.08838834765f; acc[g][j] = 0.0f; }
        top[g] = -1e30f; sum[g] = 0.0f;
    }
    const Four* keys = (const Four*)(k + pair * length * DIM);
    const Four* values = (const Four*)(v + pair * length * DIM);
    for (int i = first + warp; i < last; i += WARPS) {
        Four kk = keys[(long long)i * WARP + lane], vv = values[(long long)i * WARP + lane];
        float kf[4], vf[4];
        for (int j = 0; j < 4; ++j) { kf[j] = to_float(kk.v[j]); vf[j] = to_float(vv.v[j]); }
        for (int g = 0; g < GROUP; ++g) {
            float s = 0.0f;
            for (int j = 0; j < 4; ++j) s += mine[g][j] * kf[j];
            s = warp_sum(s);
            float high = fmaxf(top[g], s), old = expf(top[g] - high), now = expf(s - high);
            sum[g] = sum[g] * old + now;
            for (int j = 0; j < 4; ++j) acc[g][j] = acc[g][j] * old + now * vf[j];
            top[g] = high;
        }
    }
    for (int g = 0; g < GROUP; ++g) {
        if (lane == 0) { share[warp][g][DIM] = top[g]; share[warp][g][DIM + 1] = sum[g]; }
        for (int j = 0; j < 4; ++j) share[warp][g][lane * 4 + j] = acc[g][j];
    }
    __syncthreads();
    for (int g = 0; g < GROUP; ++g) {
        float high = -1e30f, total = 0.0f, x = 0.0f;
        for (int w = 0; w < WARPS; ++w) high = fmaxf(high, share[w][g][DIM]);
        for (int w = 0; w < WARPS; ++w) {
            float scale = expf(share[w][g][DIM] - high);
            total += share[w][g][DIM + 1] * scale;
            x += share[w][g][threadIdx.x] * scale;
        }
        float* to = part + ((pair * GROUP + g) * splits + split) * PART;
        to[threadIdx.x] = x;
        if (threadIdx.x == 0) { to[DIM] = high; to[DIM + 1] = total; }
    }
}
#define ATTEND(GROUP)                                                                                               \
    extern "C" __global__ void attend_##GROUP(float* part, const half_t* q, const half_t* k, const half_t* v, int length, int splits) { \
        attend<GROUP>(part, q, k, v, length, splits);                                                               \
    }
ATTEND(1)
ATTEND(4)
ATTEND(8)

// One block of 128 threads a head: joins the splits.
extern "C" __global__ void attend_join(half_t* out, const float* part, int splits) {
    const float* mine = part + (long long)blockIdx.x * splits * PART;
    float high = -1e30f, total = 0.0f, x = 0.0f;
    for (int s = 0; s < splits; ++s) high = fmaxf(high, mine[s * PART + DIM]);
    for (int s = 0; s < splits; ++s) {
        float scale = expf(mine[s * PART + DIM] - high);
        total += mine[s * PART + DIM + 1] * scale;
        x += mine[s * PART + threadIdx.x] * scale;
    }
    out[(long long)blockIdx.x * DIM + threadIdx.x] = to_half(x / total);
}

// -- weight-only int4/int2: fields of BITS along k, offset 2^(BITS-1), an fp16 scale for GROUP_K weights --------------------

#define GROUP_K 128

// Matrix-vector for up to ROWS rows: a warp a weight row, 16 bytes of weights a lane and turn.
template <int BITS, int ROWS>
__device__ void weight_rows(half_t* out, const half_t* x, const word_t* w, const half_t* scales, int m, int n, int k) {
    const int per = 32 / BITS, chunk = 4 * per;
    int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= n) return;                                  // a whole warp at a time
    const Words* mine = (const Words*)(w + (long long)row * (k / per));
    float acc[ROWS];
    for (int r = 0; r < ROWS; ++r) acc[r] = 0.0f;
    for (int c = lane; c < k / chunk; c += WARP) {
        Words four = mine[c];
        float scale = to_float(scales[(long long)row * (k / GROUP_K) + c * chunk / GROUP_K]);
        for (int i = 0; i < 4; ++i) {
            word_t packed = four.v[i];
            int at = c * chunk + i * per;
            for (int j = 0; j < per; ++j) {
                float weight = ((int)((packed >> (j * BITS)) & ((1u << BITS) - 1)) - (1 << (BITS - 1))) * scale;
                for (int r = 0; r < ROWS; ++r) if (r < m) acc[r] += weight * to_float(x[(long long)r * k + at + j]);
            }
        }
    }
    for (int r = 0; r < ROWS; ++r) {
        float sum = warp_sum(acc[r]);
        if (lane == 0 && r < m) out[(long long)r * n + row] = to_half(sum);
    }
}

// Many rows: tiles of 64 x 64, 256 threads of 4 x 4 results, k in steps of 32, weights unpacked into shared memory.
#define TILE 64
#define STEP 32
template <int BITS>
__device__ void weight_tiles(half_t* out, const half_t* x, const word_t* w, const half_t* scales, int m, int n, int k) {
    __shared__ float xs[STEP][TILE + 1], ws[STEP][TILE + 1];
    const int per = 32 / BITS, words = STEP / per;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16, row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    float acc[4][4];
    for (int i = 0; i < 4; ++i) for (int j = 0; j < 4; ++j) acc[i][j] = 0.0f;
    for (int k0 = 0; k0 < k; k0 += STEP) {
        for (int i = threadIdx.x; i < TILE * STEP; i += THREADS) {
            int r = i / STEP, c = i % STEP;
            xs[c][r] = row0 + r < m ? to_float(x[(long long)(row0 + r) * k + k0 + c]) : 0.0f;
        }
        for (int i = threadIdx.x; i < TILE * words; i += THREADS) {
            int r = i / words, c = i % words, col = col0 + r;
            word_t packed = col < n ? w[(long long)col * (k / per) + k0 / per + c] : 0u;
            float scale = col < n ? to_float(scales[(long long)col * (k / GROUP_K) + k0 / GROUP_K]) : 0.0f;
            for (int j = 0; j < per; ++j)
                ws[c * per + j][r] = ((int)((packed >> (j * BITS)) & ((1u << BITS) - 1)) - (1 << (BITS - 1))) * scale;
        }
        __syncthreads();
        for (int c = 0; c < STEP; ++c) {
            float a[4], b[4];
            for (int i = 0; i < 4; ++i) { a[i] = xs[c][ty * 4 + i]; b[i] = ws[c][tx * 4 + i]; }
            for (int i = 0; i < 4; ++i) for (int j = 0; j < 4; ++j) acc[i][j] += a[i] * b[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; ++i) for (int j = 0; j < 4; ++j) {
        int row = row0 + ty * 4 + i, col = col0 + tx * 4 + j;
        if (row < m && col < n) out[(long long)row * n + col] = to_half(acc[i][j]);
    }
}
#define WEIGHT_ARGS half_t* out, const half_t* x, const word_t* w, const half_t* scales, int m, int n, int k
#define WEIGHT_ONLY(BITS)                                                                                           \
    extern "C" __global__ void weight_rows_int##BITS##_1(WEIGHT_ARGS) { weight_rows<BITS, 1>(out, x, w, scales, m, n, k); } \
    extern "C" __global__ void weight_rows_int##BITS##_8(WEIGHT_ARGS) { weight_rows<BITS, 8>(out, x, w, scales, m, n, k); } \
    extern "C" __global__ void weight_tiles_int##BITS(WEIGHT_ARGS) { weight_tiles<BITS>(out, x, w, scales, m, n, k); }
WEIGHT_ONLY(4)
WEIGHT_ONLY(2)

// -- table look-up: 4 neighbouring weights of one bit plane index a table of 16 sums of activations ----------------------
// Grid (n / 128, m, splits of k), 128 threads, a weight row each. out is fp32 and zeroed before: splits add up in it.

#define LUT_K 256
extern "C" __global__ void lookup(float* out, const half_t* x, const word_t* planes, const half_t* scales, int bits, int n, int k) {
    __shared__ float table[LUT_K / 4][16];
    __shared__ float sums[LUT_K / 4];
    int row = blockIdx.x * 128 + threadIdx.x;
    const half_t* mine = x + (long long)blockIdx.y * k;
    float total = 0.0f, whole = 0.0f;
    for (int k0 = blockIdx.z * LUT_K; k0 < k; k0 += gridDim.z * LUT_K) {
        for (int i = threadIdx.x; i < LUT_K / 4 * 16; i += 128) {
            float s = 0.0f;
            for (int j = 0; j < 4; ++j) if ((i % 16) >> j & 1) s += to_float(mine[k0 + i / 16 * 4 + j]);
            table[i / 16][i % 16] = s;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < LUT_K / 4; i += 128) sums[i] = table[i][15];
        __syncthreads();
        for (int i = 0; i < LUT_K / 4; ++i) whole += sums[i];
        for (int p = 0; p < bits && row < n; ++p) {
            const word_t* words = planes + ((long long)p * n + row) * (k / 32) + k0 / 32;
            float part = 0.0f;
            for (int c = 0; c < LUT_K / 32; ++c) {
                word_t packed = words[c];
                for (int j = 0; j < 8; ++j) part += table[c * 8 + j][packed >> (4 * j) & 15u];
            }
            total += part * (1 << p);
        }
        __syncthreads();
    }
    if (row < n) atomicAdd(&out[(long long)blockIdx.y * n + row], (total - whole * (1 << (bits - 1))) * to_float(scales[row]));
}

// -- bit-serial: planes (bits, rows, k / 32); AND counts common ones, XNOR (one plane each) equal signs -------------------

// Few rows: a warp a column of the result, 8 rows at most.
extern "C" __global__ void popcount_rows(int* out, const word_t* a, const word_t* w, int bits_a, int bits_w, int xnor, int m, int n, int words) {
    int lane = threadIdx.x % WARP, col = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (col >= n) return;
    int acc[8];
    for (int r = 0; r < 8; ++r) acc[r] = 0;
    for (int q = 0; q < bits_w; ++q)
        for (int c = lane; c < words; c += WARP) {
            word_t mine = w[((long long)q * n + col) * words + c];
            for (int p = 0; p < bits_a; ++p)
                for (int r = 0; r < 8; ++r) if (r < m) {
                    word_t other = a[((long long)p * m + r) * words + c];
                    acc[r] += xnor ? -2 * __popc(mine ^ other) : __popc(mine & other) << (p + q);
                }
        }
    for (int r = 0; r < 8; ++r) {
        int sum = warp_sum_int(acc[r]);
        if (lane == 0 && r < m) out[(long long)r * n + col] = sum + (xnor ? words * 32 : 0);
    }
}

// Many rows: 32 x 32 results a block of 256 threads (2 x 2 each), 16 words of k a step.
extern "C" __global__ void popcount_tiles(int* out, const word_t* a, const word_t* w, int bits_a, int bits_w, int xnor, int m, int n, int words) {
    __shared__ word_t as[32][17], bs[32][17];
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16, row0 = blockIdx.y * 32, col0 = blockIdx.x * 32;
    int acc[2][2] = {{0, 0}, {0, 0}};
    for (int p = 0; p < bits_a; ++p) for (int q = 0; q < bits_w; ++q)
        for (int c0 = 0; c0 < words; c0 += 16) {
            for (int i = threadIdx.x; i < 32 * 16; i += THREADS) {
                int r = i / 16, c = i % 16;
                bool there = c0 + c < words;
                as[r][c] = there && row0 + r < m ? a[((long long)p * m + row0 + r) * words + c0 + c] : 0u;
                bs[r][c] = there && col0 + r < n ? w[((long long)q * n + col0 + r) * words + c0 + c] : 0u;
            }
            __syncthreads();
            for (int c = 0; c < 16; ++c)
                for (int i = 0; i < 2; ++i) for (int j = 0; j < 2; ++j) {
                    word_t mine = as[ty * 2 + i][c], other = bs[tx * 2 + j][c];
                    acc[i][j] += xnor ? -2 * __popc(mine ^ other) : __popc(mine & other) << (p + q);
                }
            __syncthreads();
        }
    for (int i = 0; i < 2; ++i) for (int j = 0; j < 2; ++j) {
        int row = row0 + ty * 2 + i, col = col0 + tx * 2 + j;
        if (row < m && col < n) out[(long long)row * n + col] = acc[i][j] + (xnor ? words * 32 : 0);
    }
}
