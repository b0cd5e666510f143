// Gravity between all pairs of bodies as CUDA programs usually write it: one thread a body, tiles of
// (x, y, z, m) in shared memory, every thread against every body of a tile. The benchmark builds it
// with nvcc -use_fast_math and compares the project's own kernel with it.
//
//     nvcc -O3 -use_fast_math -arch=native all_pairs.cu -o all_pairs && ./all_pairs 262144 10
//
// Prints the seconds of every repetition, one a line, then the sum of all accelerations' magnitudes.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

constexpr int kTile = 256;
constexpr float kSofteningSquare = 1e-4f;

__global__ void accelerate(const float4* bodies, float3* accelerations, int number) {
  __shared__ float4 tile[kTile];
  const int body = blockIdx.x * kTile + threadIdx.x;
  const float4 mine = bodies[body];
  float3 sum = {0.0f, 0.0f, 0.0f};
  for (int start = 0; start < number; start += kTile) {
    tile[threadIdx.x] = bodies[start + threadIdx.x];
    __syncthreads();
#pragma unroll 32
    for (int other = 0; other < kTile; ++other) {
      const float4 source = tile[other];
      const float dx = source.x - mine.x;
      const float dy = source.y - mine.y;
      const float dz = source.z - mine.z;
      const float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + kSofteningSquare);
      const float pull = source.w * inverse * inverse * inverse;
      sum.x += pull * dx;
      sum.y += pull * dy;
      sum.z += pull * dz;
    }
    __syncthreads();
  }
  accelerations[body] = sum;
}

void check(cudaError_t error) {
  if (error != cudaSuccess) {
    std::fprintf(stderr, "all_pairs: %s\n", cudaGetErrorString(error));
    std::exit(1);
  }
}

int main(int argc, char** argv) {
  const int number = argc > 1 ? std::atoi(argv[1]) : 0;
  const int repetitions = argc > 2 ? std::atoi(argv[2]) : 10;
  if (number <= 0 || number % kTile != 0 || repetitions <= 0) {
    std::fprintf(stderr, "all_pairs: needs a number of bodies that %d divides\n", kTile);
    return 2;
  }
  std::vector<float4> bodies(number);
  unsigned state = 1;
  const auto draw = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(state >> 8) / (1 << 24) - 0.5f;
  };
  for (float4& body : bodies) body = {draw(), draw(), draw(), 1.0f / number};

  float4* sources = nullptr;
  float3* results = nullptr;
  check(cudaMalloc(&sources, number * sizeof(float4)));
  check(cudaMalloc(&results, number * sizeof(float3)));
  check(cudaMemcpy(sources, bodies.data(), number * sizeof(float4), cudaMemcpyHostToDevice));
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  for (int turn = -2; turn < repetitions; ++turn) {  // two to warm up
    check(cudaEventRecord(begin));
    accelerate<<<number / kTile, kTile>>>(sources, results, number);
    check(cudaGetLastError());
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float milliseconds = 0.0f;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    if (turn >= 0) std::printf("%.9f\n", milliseconds * 1e-3);
  }
  std::vector<float3> found(number);
  check(cudaMemcpy(found.data(), results, number * sizeof(float3), cudaMemcpyDeviceToHost));
  double total = 0.0;
  for (const float3& a : found) total += std::sqrt(a.x * a.x + a.y * a.y + a.z * a.z);
  std::printf("%.6f\n", total);
}
