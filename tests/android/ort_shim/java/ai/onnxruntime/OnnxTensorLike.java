package ai.onnxruntime;

/** What a session takes as an input. */
public abstract class OnnxTensorLike implements OnnxValue {
    final long handle;
    private boolean closed;

    OnnxTensorLike(long handle) {
        this.handle = handle;
    }

    @Override
    public void close() {
        if (!closed) {
            Native.release(Native.RELEASE_VALUE, handle);
        }
        closed = true;
    }
}
