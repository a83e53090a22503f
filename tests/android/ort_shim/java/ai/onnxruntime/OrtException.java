package ai.onnxruntime;

/** What the library says went wrong. */
public class OrtException extends Exception {
    public OrtException(String message) {
        super(message);
    }
}
