package android.content;

import android.net.Uri;
import android.os.Bundle;

public class Intent {
    public static final String ACTION_CREATE_DOCUMENT = "android.intent.action.CREATE_DOCUMENT";
    public static final String CATEGORY_OPENABLE = "android.intent.category.OPENABLE";
    public static final String EXTRA_TITLE = "android.intent.extra.TITLE";
    private final Bundle extras = new Bundle();
    private Uri data;

    public Intent(String action) {}

    public Intent addCategory(String category) {
        return this;
    }

    public Intent setType(String type) {
        return this;
    }

    public Intent setData(Uri data) {
        this.data = data;
        return this;
    }

    public Intent putExtra(String name, String value) {
        return put(name, value);
    }

    public Intent putExtra(String name, boolean value) {
        return put(name, value);
    }

    public Intent putExtra(String name, int value) {
        return put(name, value);
    }

    public Intent putExtra(String name, long value) {
        return put(name, value);
    }

    public Intent putExtra(String name, float value) {
        return put(name, value);
    }

    public String getStringExtra(String name) {
        return (String) extras.get(name);
    }

    public boolean getBooleanExtra(String name, boolean otherwise) {
        Object value = extras.get(name);
        return value == null ? otherwise : (boolean) value;
    }

    public Bundle getExtras() {
        return extras;
    }

    public Uri getData() {
        return data;
    }

    private Intent put(String name, Object value) {
        Bundle.Sender.put(extras, name, value);
        return this;
    }
}
