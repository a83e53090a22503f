package org.json;

import edgetta.Json;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

public class JSONObject {
    private final Map<String, Object> values = new LinkedHashMap<>();

    public JSONObject put(String name, Object value) {
        values.put(name, value);
        return this;
    }

    public JSONObject put(String name, double value) {
        return put(name, (Object) value);
    }

    public JSONObject put(String name, int value) {
        return put(name, (Object) value);
    }

    public JSONObject put(String name, long value) {
        return put(name, (Object) value);
    }

    @Override
    public String toString() {
        return values.entrySet().stream()
                .map(entry -> Json.text(entry.getKey()) + ":" + Json.text(entry.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
    }
}
