// The Python side of the kernel: functions that take addresses and strides and let other threads run meanwhile.
//
// kernel.py is the only caller and checks shapes, types and strides; nothing here does. On a processor or with a
// compiler that is not up to it the module loads all the same, and `supported` says so.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)) && !defined(_WIN32)
#include "_gram.h"
#include "_lstm.h"
#include "_noise.h"

typedef unsigned long long address;
#define FLOATS(a) ((float *)(uintptr_t)(a))
#define INTEGERS(a) ((const int64_t *)(uintptr_t)(a))
enum { MOST_USES = 64 };

static PyObject *supported(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    __builtin_cpu_init();
    return PyBool_FromLong(
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("aes") &&
        __builtin_cpu_supports("vaes"));
}

static PyObject *finished(int enough) {
    if (enough) Py_RETURN_NONE;
    return PyErr_NoMemory();
}

static PyObject *py_normal(PyObject *self, PyObject *args) {
    address out;
    long n;
    unsigned long long counter;
    float std;
    const char *key;
    Py_ssize_t size;
    (void)self;
    if (!PyArg_ParseTuple(args, "Klfy#K", &out, &n, &std, &key, &size, &counter)) return NULL;
    if (size != 16) return PyErr_Format(PyExc_ValueError, "an AES-128 key has 16 bytes, not %zd", size);
    Py_BEGIN_ALLOW_THREADS
    normal(FLOATS(out), n, std, (const uint8_t *)key, counter);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_aes(PyObject *self, PyObject *args) {
    const char *key, *in;
    Py_ssize_t key_size, size;
    (void)self;
    if (!PyArg_ParseTuple(args, "y#y#", &key, &key_size, &in, &size)) return NULL;
    if (key_size != 16 || size % 16)
        return PyErr_Format(PyExc_ValueError, "AES-128 takes a key of 16 bytes and whole blocks");
    uint8_t *out = malloc((size_t)size + 1);
    if (!out) return PyErr_NoMemory();
    aes_blocks(out, (const uint8_t *)in, (long)(size / 16), (const uint8_t *)key);
    PyObject *result = PyBytes_FromStringAndSize((const char *)out, size);
    free(out);
    return result;
}

static PyObject *py_minus_logs(PyObject *self, PyObject *args) {
    const char *bits, *finer;
    Py_ssize_t size, others;
    float out[16];
    (void)self;
    if (!PyArg_ParseTuple(args, "y#y#", &bits, &size, &finer, &others)) return NULL;
    if (size != 64 || others != 64) return PyErr_Format(PyExc_ValueError, "minus_logs takes 16 words and 16 words");
    minus_logs(out, (const uint8_t *)bits, (const uint8_t *)finer);
    return PyBytes_FromStringAndSize((const char *)out, sizeof out);
}

static int as_rows(PyObject *tuple, Rows *rows, float **sums) {
    address data, into = 0;
    if (!PyArg_ParseTuple(tuple, "Klll|K", &data, &rows->batch, &rows->time, &rows->size, &into)) return 0;
    rows->data = FLOATS(data);
    if (sums) *sums = FLOATS(into);
    return 1;
}

static PyObject *py_ghost(PyObject *self, PyObject *args) {
    address out, traces;
    PyObject *of_a, *of_gs;
    Rows a, gs[MOST_USES];
    float one, *sums[MOST_USES];
    long batch, length;
    int enough;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKO!O!llf", &out, &traces, &PyTuple_Type, &of_a, &PyTuple_Type, &of_gs, &batch,
                          &length, &one))
        return NULL;
    Py_ssize_t count = PyTuple_Size(of_gs);
    if (count > MOST_USES) return PyErr_Format(PyExc_ValueError, "%zd uses of one input; at most %d", count, MOST_USES);
    if (!as_rows(of_a, &a, NULL)) return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!as_rows(PyTuple_GetItem(of_gs, i), &gs[i], &sums[i])) return NULL;
    Py_BEGIN_ALLOW_THREADS
    enough = ghost(FLOATS(out), FLOATS(traces), a, gs, sums, (int)count, batch, length, one);
    Py_END_ALLOW_THREADS
    return finished(enough);
}

static PyObject *py_layer_norm(PyObject *self, PyObject *args) {
    address weight, bias, mean, rstd;
    PyObject *of_x, *of_g;
    Rows x, g;
    long batch, length;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKO!O!KKll", &weight, &bias, &PyTuple_Type, &of_x, &PyTuple_Type, &of_g, &mean,
                          &rstd, &batch, &length))
        return NULL;
    if (!as_rows(of_x, &x, NULL) || !as_rows(of_g, &g, NULL)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    layer_norm(FLOATS(weight), FLOATS(bias), x, g, FLOATS(mean), FLOATS(rstd), batch, length);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_weighted_sum(PyObject *self, PyObject *args) {
    address out, sums, weights;
    PyObject *of_x, *of_y;
    Rows x, y;
    long line, batch, length;
    int enough;
    (void)self;
    if (!PyArg_ParseTuple(args, "KlKO!O!Kll", &out, &line, &sums, &PyTuple_Type, &of_x, &PyTuple_Type, &of_y, &weights,
                          &batch, &length))
        return NULL;
    if (!as_rows(of_x, &x, NULL) || !as_rows(of_y, &y, NULL)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    enough = weighted_sum(FLOATS(out), line, FLOATS(sums), x, y, FLOATS(weights), batch, length);
    Py_END_ALLOW_THREADS
    return finished(enough);
}

static PyObject *py_product(PyObject *self, PyObject *args) {
    address out, x, y;
    long along, across, rows, depth, columns;
    int enough;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKlllll", &out, &x, &y, &along, &across, &rows, &depth, &columns)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    enough = product(FLOATS(out), FLOATS(x), FLOATS(y), along, across, rows, depth, columns);
    Py_END_ALLOW_THREADS
    return finished(enough);
}

static PyObject *py_lstm_forward(PyObject *self, PyObject *args) {
    address gates, h, c, tanh_c, hh, rows;
    long length, batch, size;
    int enough;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKKKKlll", &gates, &h, &c, &tanh_c, &hh, &rows, &length, &batch, &size)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    enough = lstm_forward(FLOATS(gates), FLOATS(h), FLOATS(c), FLOATS(tanh_c), FLOATS(hh), INTEGERS(rows), length,
                          batch, size);
    Py_END_ALLOW_THREADS
    return finished(enough);
}

static PyObject *py_lstm_backward(PyObject *self, PyObject *args) {
    address d_gates, gates, c, tanh_c, dh, dc, dh0, hh, rows;
    long length, batch, size;
    int enough;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKKKKKKKlll", &d_gates, &gates, &c, &tanh_c, &dh, &dc, &dh0, &hh, &rows, &length,
                          &batch, &size))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    enough = lstm_backward(FLOATS(d_gates), FLOATS(gates), FLOATS(c), FLOATS(tanh_c), FLOATS(dh), FLOATS(dc),
                           FLOATS(dh0), FLOATS(hh), INTEGERS(rows), length, batch, size);
    Py_END_ALLOW_THREADS
    return finished(enough);
}

static PyMethodDef functions[] = {
    {"supported", supported, METH_NOARGS, "Return whether this processor has what the other functions need."},
    {"normal", py_normal, METH_VARARGS, "normal(out, n, std, key, counter)"},
    {"aes", py_aes, METH_VARARGS, "aes(key, blocks) -> bytes, block by block: for tests"},
    {"minus_logs", py_minus_logs, METH_VARARGS, "minus_logs(bits, finer) -> bytes, of 16 uniforms: for tests"},
    {"ghost", py_ghost, METH_VARARGS, "ghost(out, traces, a, gs, batch, length, one)"},
    {"layer_norm", py_layer_norm, METH_VARARGS, "layer_norm(weight, bias, x, g, mean, rstd, batch, length)"},
    {"weighted_sum", py_weighted_sum, METH_VARARGS, "weighted_sum(out, line, sums, x, y, weights, batch, length)"},
    {"product", py_product, METH_VARARGS, "product(out, x, y, along, across, rows, depth, columns)"},
    {"lstm_forward", py_lstm_forward, METH_VARARGS, "lstm_forward(gates, h, c, tanh_c, hh, rows, length, batch, size)"},
    {"lstm_backward", py_lstm_backward, METH_VARARGS,
     "lstm_backward(d_gates, gates, c, tanh_c, dh, dc, dh0, hh, rows, length, batch, size)"},
    {NULL, NULL, 0, NULL},
};

#else  // another processor or compiler

static PyObject *supported(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    Py_RETURN_FALSE;
}

static PyMethodDef functions[] = {
    {"supported", supported, METH_NOARGS, "Return whether this processor has what the other functions need."},
    {NULL, NULL, 0, NULL},
};

#endif

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_kernel",
    .m_doc = "Compiled kernels of private training; see kernel.py.",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&module); }
