/* JNI side of the test-only ai.onnxruntime classes: calls the C interface of libonnxruntime by slot.
 *
 * The interface is a table of function pointers that later releases only append to, so the slots below hold for every
 * release. No header of ONNX Runtime is needed, and Python's package has none.
 */
#include <dlfcn.h>
#include <jni.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENVIRONMENT = 3,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_SESSION_OPTIONS = 10,
    CREATE_TENSOR_WITH_DATA = 49,
    GET_TENSOR_DATA = 51,
    GET_SHAPE_ELEMENT_COUNT = 64,
    GET_TENSOR_TYPE_AND_SHAPE = 65,
    CREATE_CPU_MEMORY_INFO = 69,
    ALLOCATOR_FREE = 76,
    GET_DEFAULT_ALLOCATOR = 78,
    RELEASE_STATUS = 93,
    RELEASE_MEMORY_INFO = 94,
    RELEASE_TENSOR_TYPE_AND_SHAPE = 99,
    ADD_SESSION_CONFIG_ENTRY = 130,
    API_VERSION = 12,
    DEVICE_ALLOCATOR = 0,
    DEFAULT_MEMORY = 0,
};

typedef void *Status;
typedef struct {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} ApiBase;

static const void *const *api;

#define CALL(slot, ...) ((Status(*)(__VA_ARGS__))api[slot])
#define EXPORT(type, name) JNIEXPORT type JNICALL Java_ai_onnxruntime_Native_##name

/* Throws what a status says and returns 1; 0 if all is well. */
static int failed(JNIEnv *env, Status status) {
    if (!status) return 0;
    const char *message = ((const char *(*)(Status))api[GET_ERROR_MESSAGE])(status);
    (*env)->ThrowNew(env, (*env)->FindClass(env, "ai/onnxruntime/OrtException"), message);
    ((void (*)(Status))api[RELEASE_STATUS])(status);
    return 1;
}

EXPORT(void, open)(JNIEnv *env, jclass self, jstring path) {
    const char *name = (*env)->GetStringUTFChars(env, path, NULL);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    (*env)->ReleaseStringUTFChars(env, path, name);
    const ApiBase *(*base)(void) = library ? (const ApiBase *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
    api = base ? base()->get_api(API_VERSION) : NULL;
    if (!api) {
        (*env)->ThrowNew(env, (*env)->FindClass(env, "java/lang/UnsatisfiedLinkError"), "no usable libonnxruntime");
    }
}

EXPORT(jlong, createEnvironment)(JNIEnv *env, jclass self, jint level, jstring name) {
    void *made = NULL;
    const char *text = (*env)->GetStringUTFChars(env, name, NULL);
    failed(env, CALL(CREATE_ENVIRONMENT, int, const char *, void **)(level, text, &made));
    (*env)->ReleaseStringUTFChars(env, name, text);
    return (jlong)made;
}

EXPORT(void, onEnvironment)(JNIEnv *env, jclass self, jint slot, jlong environment) {
    failed(env, CALL(slot, void *)((void *)environment));
}

EXPORT(jlong, createOptions)(JNIEnv *env, jclass self) {
    void *made = NULL;
    failed(env, CALL(CREATE_SESSION_OPTIONS, void **)(&made));
    return (jlong)made;
}

EXPORT(void, setOption)(JNIEnv *env, jclass self, jint slot, jlong options, jint value) {
    failed(env, CALL(slot, void *, int)((void *)options, value));
}

EXPORT(void, addConfigEntry)(JNIEnv *env, jclass self, jlong options, jstring key, jstring value) {
    const char *k = (*env)->GetStringUTFChars(env, key, NULL), *v = (*env)->GetStringUTFChars(env, value, NULL);
    failed(env, CALL(ADD_SESSION_CONFIG_ENTRY, void *, const char *, const char *)((void *)options, k, v));
    (*env)->ReleaseStringUTFChars(env, key, k);
    (*env)->ReleaseStringUTFChars(env, value, v);
}

EXPORT(jlong, createSession)(JNIEnv *env, jclass self, jlong environment, jstring path, jlong options) {
    void *made = NULL;
    const char *text = (*env)->GetStringUTFChars(env, path, NULL);
    failed(env, CALL(CREATE_SESSION, void *, const char *, void *, void **)(
                    (void *)environment, text, (void *)options, &made));
    (*env)->ReleaseStringUTFChars(env, path, text);
    return (jlong)made;
}

EXPORT(jobjectArray, names)(JNIEnv *env, jclass self, jint count_slot, jint name_slot, jlong session) {
    size_t count = 0;
    void *allocator = NULL;
    if (failed(env, CALL(count_slot, void *, size_t *)((void *)session, &count))) return NULL;
    if (failed(env, CALL(GET_DEFAULT_ALLOCATOR, void **)(&allocator))) return NULL;
    jobjectArray names = (*env)->NewObjectArray(env, (jsize)count, (*env)->FindClass(env, "java/lang/String"), NULL);
    for (size_t index = 0; index < count; index++) {
        char *name = NULL;
        if (failed(env, CALL(name_slot, void *, size_t, void *, char **)((void *)session, index, allocator, &name)))
            return NULL;
        (*env)->SetObjectArrayElement(env, names, (jsize)index, (*env)->NewStringUTF(env, name));
        failed(env, CALL(ALLOCATOR_FREE, void *, void *)(allocator, name));
    }
    return names;
}

EXPORT(jlong, createTensor)(JNIEnv *env, jclass self, jobject direct, jlong bytes, jlongArray shape, jint type) {
    void *memory = NULL, *made = NULL;
    if (failed(env, CALL(CREATE_CPU_MEMORY_INFO, int, int, void **)(DEVICE_ALLOCATOR, DEFAULT_MEMORY, &memory)))
        return 0;
    jlong *dimensions = (*env)->GetLongArrayElements(env, shape, NULL);
    size_t rank = (size_t)(*env)->GetArrayLength(env, shape);
    failed(env, CALL(CREATE_TENSOR_WITH_DATA, void *, void *, size_t, const int64_t *, size_t, int, void **)(
                    memory, (*env)->GetDirectBufferAddress(env, direct), (size_t)bytes, (const int64_t *)dimensions,
                    rank, type, &made));
    (*env)->ReleaseLongArrayElements(env, shape, dimensions, JNI_ABORT);
    ((void (*)(void *))api[RELEASE_MEMORY_INFO])(memory);
    return (jlong)made;
}

/* C strings of an array of Java strings; free_strings gives them back. */
static const char **strings(JNIEnv *env, jobjectArray array, jsize count) {
    const char **made = calloc((size_t)count + 1, sizeof *made);
    for (jsize i = 0; i < count; i++)
        made[i] = (*env)->GetStringUTFChars(env, (*env)->GetObjectArrayElement(env, array, i), NULL);
    return made;
}

static void free_strings(JNIEnv *env, jobjectArray array, jsize count, const char **made) {
    for (jsize i = 0; i < count; i++)
        (*env)->ReleaseStringUTFChars(env, (*env)->GetObjectArrayElement(env, array, i), made[i]);
    free(made);
}

EXPORT(jlongArray, run)(JNIEnv *env, jclass self, jlong session, jobjectArray in, jlongArray values, jobjectArray out) {
    jsize in_count = (*env)->GetArrayLength(env, in), out_count = (*env)->GetArrayLength(env, out);
    const char **in_names = strings(env, in, in_count), **out_names = strings(env, out, out_count);
    jlong *given = (*env)->GetLongArrayElements(env, values, NULL);
    void **made = calloc((size_t)out_count + 1, sizeof *made);
    jlongArray result = NULL;
    Status status = CALL(RUN, void *, void *, const char *const *, const void *const *, size_t, const char *const *,
                         size_t, void **)((void *)session, NULL, in_names, (const void *const *)given,
                                          (size_t)in_count, out_names, (size_t)out_count, made);
    if (!failed(env, status)) {
        result = (*env)->NewLongArray(env, out_count);
        (*env)->SetLongArrayRegion(env, result, 0, out_count, (const jlong *)made);
    }
    free(made);
    (*env)->ReleaseLongArrayElements(env, values, given, JNI_ABORT);
    free_strings(env, in, in_count, in_names);
    free_strings(env, out, out_count, out_names);
    return result;
}

EXPORT(jobject, data)(JNIEnv *env, jclass self, jlong value) {
    void *data = NULL, *shape = NULL;
    size_t elements = 0;
    if (failed(env, CALL(GET_TENSOR_DATA, void *, void **)((void *)value, &data))) return NULL;
    if (failed(env, CALL(GET_TENSOR_TYPE_AND_SHAPE, void *, void **)((void *)value, &shape))) return NULL;
    int wrong = failed(env, CALL(GET_SHAPE_ELEMENT_COUNT, void *, size_t *)(shape, &elements));
    ((void (*)(void *))api[RELEASE_TENSOR_TYPE_AND_SHAPE])(shape);
    return wrong ? NULL : (*env)->NewDirectByteBuffer(env, data, (jlong)(elements * 4));
}

EXPORT(void, release)(JNIEnv *env, jclass self, jint slot, jlong handle) {
    ((void (*)(void *))api[slot])((void *)handle);
}
