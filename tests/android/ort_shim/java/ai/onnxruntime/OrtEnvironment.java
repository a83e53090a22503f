package ai.onnxruntime;

/** The library, once per process. */
public class OrtEnvironment implements AutoCloseable {
    private static final int ENABLE_TELEMETRY = 5;
    private static final int DISABLE_TELEMETRY = 6;
    private static OrtEnvironment instance;

    private final long handle;

    private OrtEnvironment(long handle) {
        this.handle = handle;
    }

    public static synchronized OrtEnvironment getEnvironment(OrtLoggingLevel level, String name) {
        if (instance == null) {
            try {
                instance = new OrtEnvironment(Native.createEnvironment(level.ordinal(), name));
            } catch (OrtException error) {
                throw new IllegalStateException(error);
            }
        }
        return instance;
    }

    public void setTelemetry(boolean sendTelemetry) throws OrtException {
        Native.onEnvironment(sendTelemetry ? ENABLE_TELEMETRY : DISABLE_TELEMETRY, handle);
    }

    public OrtSession createSession(String path, OrtSession.SessionOptions options) throws OrtException {
        return new OrtSession(Native.createSession(handle, path, options.handle()));
    }

    @Override
    public void close() {}
}
