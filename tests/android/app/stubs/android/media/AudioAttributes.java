package android.media;

import edgetta.Stub;

public final class AudioAttributes {
    public static final int USAGE_MEDIA = 1;
    public static final int CONTENT_TYPE_SONIFICATION = 4;
    public static class Builder {
        public Builder setUsage(int usage) { throw new Stub(); }
        public Builder setContentType(int type) { throw new Stub(); }
        public AudioAttributes build() { throw new Stub(); }
    }
}
