package ai.onnxruntime;

import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

/** A loaded graph. */
public class OrtSession implements AutoCloseable {
    private static final int INPUT_COUNT = 30;
    private static final int OUTPUT_COUNT = 31;
    private static final int INPUT_NAME = 36;
    private static final int OUTPUT_NAME = 37;

    private final long handle;
    private final String[] outputs;
    private final Set<String> inputNames;
    private boolean closed;

    OrtSession(long handle) throws OrtException {
        this.handle = handle;
        inputNames = ordered(Native.names(INPUT_COUNT, INPUT_NAME, handle));
        outputs = Native.names(OUTPUT_COUNT, OUTPUT_NAME, handle);
    }

    public Set<String> getInputNames() {
        return inputNames;
    }

    public Set<String> getOutputNames() {
        return ordered(outputs);
    }

    public Result run(Map<String, ? extends OnnxTensorLike> inputs) throws OrtException {
        if (closed) {
            throw new IllegalStateException("the session is closed");
        }
        if (!inputNames.containsAll(inputs.keySet())) {
            throw new OrtException("Unknown input name among " + inputs.keySet());
        }
        String[] names = inputs.keySet().toArray(new String[0]);
        long[] values = inputs.values().stream().mapToLong(value -> value.handle).toArray();
        long[] made = Native.run(handle, names, values, outputs);
        // The native side has only the numbers of the tensors whose memory the inputs hold.
        java.lang.ref.Reference.reachabilityFence(inputs);
        return new Result(Arrays.stream(made).mapToObj(value -> new OnnxTensor(value, null)).toArray(OnnxValue[]::new));
    }

    @Override
    public void close() throws OrtException {
        if (closed) {
            throw new IllegalStateException("the session is closed already");
        }
        closed = true;
        Native.release(Native.RELEASE_SESSION, handle);
    }

    private static Set<String> ordered(String[] names) {
        return Collections.unmodifiableSet(new LinkedHashSet<>(Arrays.asList(names)));
    }

    /** Outputs in the order of the graph. */
    public static class Result implements AutoCloseable {
        private final OnnxValue[] values;

        Result(OnnxValue[] values) {
            this.values = values;
        }

        public OnnxValue get(int index) {
            return values[index];
        }

        @Override
        public void close() {
            for (OnnxValue value : values) {
                value.close();
            }
        }
    }

    /** How a session runs. */
    public static class SessionOptions implements AutoCloseable {
        private static final int EXECUTION_MODE = 13;
        private static final int ENABLE_MEMORY_PATTERN = 16;
        private static final int DISABLE_MEMORY_PATTERN = 17;
        private static final int ENABLE_ARENA = 18;
        private static final int DISABLE_ARENA = 19;
        private static final int LOG_LEVEL = 22;
        private static final int INTRA_OP_THREADS = 24;
        private static final int INTER_OP_THREADS = 25;

        /** Operators one after the other, or side by side. */
        public enum ExecutionMode {
            SEQUENTIAL,
            PARALLEL
        }

        private final long handle;
        private boolean closed;

        public SessionOptions() {
            try {
                handle = Native.createOptions();
            } catch (OrtException error) {
                throw new IllegalStateException(error);
            }
        }

        long handle() {
            return handle;
        }

        public void setIntraOpNumThreads(int count) throws OrtException {
            Native.setOption(INTRA_OP_THREADS, handle, count);
        }

        public void setInterOpNumThreads(int count) throws OrtException {
            Native.setOption(INTER_OP_THREADS, handle, count);
        }

        public void setExecutionMode(ExecutionMode mode) throws OrtException {
            Native.setOption(EXECUTION_MODE, handle, mode.ordinal());
        }

        public void setSessionLogLevel(OrtLoggingLevel level) throws OrtException {
            Native.setOption(LOG_LEVEL, handle, level.ordinal());
        }

        public void setMemoryPatternOptimization(boolean enabled) throws OrtException {
            Native.setOption(enabled ? ENABLE_MEMORY_PATTERN : DISABLE_MEMORY_PATTERN, handle, 0);
        }

        public void setCPUArenaAllocator(boolean enabled) throws OrtException {
            Native.setOption(enabled ? ENABLE_ARENA : DISABLE_ARENA, handle, 0);
        }

        public void addConfigEntry(String key, String value) throws OrtException {
            Native.addConfigEntry(handle, key, value);
        }

        @Override
        public void close() {
            if (closed) {
                throw new IllegalStateException("the options are closed already");
            }
            closed = true;
            Native.release(Native.RELEASE_SESSION_OPTIONS, handle);
        }
    }
}
