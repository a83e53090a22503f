package ai.onnxruntime;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;

/** Tensors of float32 and int64. */
public class OnnxTensor extends OnnxTensorLike {
    private static final int FLOAT = 1;
    private static final int INT64 = 7;

    /** Held because the native tensor points into it. */
    private final Buffer memory;

    OnnxTensor(long handle, Buffer memory) {
        super(handle);
        this.memory = memory;
    }

    public static OnnxTensor createTensor(OrtEnvironment environment, FloatBuffer data, long[] shape)
            throws OrtException {
        ByteBuffer direct = direct(4L * data.remaining());
        direct.asFloatBuffer().put(data.duplicate());
        return checked(direct, 4, shape, FLOAT);
    }

    public static OnnxTensor createTensor(OrtEnvironment environment, LongBuffer data, long[] shape)
            throws OrtException {
        ByteBuffer direct = direct(8L * data.remaining());
        direct.asLongBuffer().put(data.duplicate());
        return checked(direct, 8, shape, INT64);
    }

    /** A copy of the elements of a float32 tensor. */
    public FloatBuffer getFloatBuffer() {
        try {
            FloatBuffer elements = Native.data(handle).order(ByteOrder.nativeOrder()).asFloatBuffer();
            FloatBuffer copy = FloatBuffer.allocate(elements.remaining());
            copy.put(elements);
            copy.rewind();
            return copy;
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
    }

    private static ByteBuffer direct(long bytes) {
        return ByteBuffer.allocateDirect(Math.toIntExact(bytes)).order(ByteOrder.nativeOrder());
    }

    private static OnnxTensor checked(ByteBuffer direct, int size, long[] shape, int type) throws OrtException {
        long elements = 1;
        for (long dimension : shape) {
            elements *= dimension;
        }
        if (elements * size != direct.capacity()) {
            throw new OrtException("Shape of " + elements + " elements for " + direct.capacity() / size);
        }
        return new OnnxTensor(Native.createTensor(direct, direct.capacity(), shape, type), direct);
    }
}
