package ai.onnxruntime;

import java.nio.Buffer;
import java.nio.ByteBuffer;

/** The C interface of ONNX Runtime by slots of its table of functions, which only ever grows at its end. */
final class Native {
    static final int RELEASE_SESSION = 95;
    static final int RELEASE_VALUE = 96;
    static final int RELEASE_SESSION_OPTIONS = 100;

    static {
        System.load(System.getProperty("edgetta.shim"));
        open(System.getProperty("edgetta.onnxruntime"));
    }

    private Native() {}

    /** Loads the library at a path; UnsatisfiedLinkError if that fails. */
    private static native void open(String library);

    static native long createEnvironment(int level, String name) throws OrtException;

    /** Calls a function of the environment that takes nothing else. */
    static native void onEnvironment(int slot, long environment) throws OrtException;

    static native long createOptions() throws OrtException;

    /** Calls a function of the options that takes a number; functions that take none ignore it. */
    static native void setOption(int slot, long options, int value) throws OrtException;

    static native void addConfigEntry(long options, String key, String value) throws OrtException;

    static native long createSession(long environment, String path, long options) throws OrtException;

    /** Names of inputs or outputs, by the slots of their count and of a name. */
    static native String[] names(int countSlot, int nameSlot, long session) throws OrtException;

    /** A tensor over a direct buffer, which must outlive it; {@code type} is a number of onnx.proto3. */
    static native long createTensor(Buffer direct, long bytes, long[] shape, int type) throws OrtException;

    static native long[] run(long session, String[] inputs, long[] values, String[] outputs) throws OrtException;

    /** The memory of a tensor of four-byte elements, valid until it is released. */
    static native ByteBuffer data(long value) throws OrtException;

    /** Releases what a handle stands for. */
    static native void release(int slot, long handle);
}
