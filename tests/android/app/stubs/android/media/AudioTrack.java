package android.media;

import edgetta.Stub;

public class AudioTrack {
    public static final int MODE_STATIC = 0;
    public static final int WRITE_BLOCKING = 0;
    public int write(float[] samples, int offset, int count, int mode) { throw new Stub(); }
    public void play() {}
    public void release() {}
    public static class Builder {
        public Builder setAudioAttributes(AudioAttributes attributes) { throw new Stub(); }
        public Builder setAudioFormat(AudioFormat format) { throw new Stub(); }
        public Builder setTransferMode(int mode) { throw new Stub(); }
        public Builder setBufferSizeInBytes(int bytes) { throw new Stub(); }
        public AudioTrack build() { throw new Stub(); }
    }
}
