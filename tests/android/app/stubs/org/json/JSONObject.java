package org.json;

import edgetta.Stub;

public class JSONObject {
    public JSONObject put(String name, Object value) { throw new Stub(); }
    public JSONObject put(String name, double value) { throw new Stub(); }
    public JSONObject put(String name, int value) { throw new Stub(); }
    public JSONObject put(String name, long value) { throw new Stub(); }
}
