package android.os;

import java.util.HashMap;
import java.util.Map;

public class BaseBundle {
    private final Map<String, Object> values = new HashMap<>();

    public Object get(String key) {
        return values.get(key);
    }

    static final class Filler {
        private Filler() {}

        static void put(BaseBundle bundle, String key, Object value) {
            bundle.values.put(key, value);
        }
    }
}
