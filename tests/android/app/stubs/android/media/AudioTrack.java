package android.media;

import edgetta.Device;

public class AudioTrack {
    public static final int MODE_STATIC = 0;
    public static final int WRITE_BLOCKING = 0;

    public int write(float[] samples, int offset, int count, int mode) {
        Device.played = java.util.Arrays.copyOfRange(samples, offset, offset + count);
        return count;
    }

    public void play() {}

    public void release() {}

    public static class Builder {
        public Builder setAudioAttributes(AudioAttributes attributes) {
            return this;
        }

        public Builder setAudioFormat(AudioFormat format) {
            return this;
        }

        public Builder setTransferMode(int mode) {
            return this;
        }

        public Builder setBufferSizeInBytes(int bytes) {
            return this;
        }

        public AudioTrack build() {
            return new AudioTrack();
        }
    }
}
