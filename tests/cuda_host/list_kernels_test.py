"""list_kernels.py finds every kernel, however it is written, or says that it cannot."""

import unittest

import list_kernels


class ListKernelsTest(unittest.TestCase):
    def test_names_in_all_forms(self):
        text = """
        // __global__ void InAComment(int x) {}
        __global__ void Plain(int x) {}
        template <typename T>
        __global__ void __launch_bounds__(kThreads) Bounded(T* x) {}
        template <int k>
        __global__ void __launch_bounds__(Shape<k>::Threads(), 2)
            OnTwoLines(int x) {}
        static /* why not */ __global__ __launch_bounds__(256) void First(int x) {}
        """
        self.assertEqual(list_kernels.kernels_of(text), ["Plain", "Bounded", "OnTwoLines", "First"])

    def test_a_kernel_that_it_does_not_understand_is_an_error(self):
        with self.assertRaises(ValueError):
            list_kernels.kernels_of("__global__ auto Odd(int x) -> void {}")


if __name__ == "__main__":
    unittest.main()
