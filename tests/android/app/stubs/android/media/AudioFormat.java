package android.media;

import edgetta.Stub;

public final class AudioFormat {
    public static final int CHANNEL_OUT_MONO = 4;
    public static final int CHANNEL_OUT_STEREO = 12;
    public static final int ENCODING_PCM_FLOAT = 4;
    public static class Builder {
        public Builder setEncoding(int encoding) { throw new Stub(); }
        public Builder setSampleRate(int rate) { throw new Stub(); }
        public Builder setChannelMask(int mask) { throw new Stub(); }
        public AudioFormat build() { throw new Stub(); }
    }
}
