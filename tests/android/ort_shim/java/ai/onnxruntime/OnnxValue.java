package ai.onnxruntime;

/** What goes into a session and comes out of it. */
public interface OnnxValue extends AutoCloseable {
    @Override
    void close();
}
