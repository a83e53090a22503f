package android.os;

public final class Bundle extends BaseBundle {
    /** What a sender puts in. */
    public static final class Sender {
        private Sender() {}

        public static void put(Bundle bundle, String key, Object value) {
            BaseBundle.Filler.put(bundle, key, value);
        }
    }
}
