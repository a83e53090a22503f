package org.json;

import edgetta.Json;
import java.util.Collection;
import java.util.stream.Collectors;

public class JSONArray {
    private final Collection<?> items;

    public JSONArray(Collection<?> items) {
        this.items = items;
    }

    @Override
    public String toString() {
        return items.stream().map(Json::text).collect(Collectors.joining(",", "[", "]"));
    }
}
