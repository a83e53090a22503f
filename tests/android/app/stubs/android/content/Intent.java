package android.content;

import edgetta.Stub;

public class Intent {
    public static final String ACTION_CREATE_DOCUMENT = "android.intent.action.CREATE_DOCUMENT";
    public static final String CATEGORY_OPENABLE = "android.intent.category.OPENABLE";
    public static final String EXTRA_TITLE = "android.intent.extra.TITLE";
    public Intent(String action) {}
    public Intent addCategory(String category) { throw new Stub(); }
    public Intent setType(String type) { throw new Stub(); }
    public Intent putExtra(String name, String value) { throw new Stub(); }
    public String getStringExtra(String name) { throw new Stub(); }
    public boolean getBooleanExtra(String name, boolean otherwise) { throw new Stub(); }
    public android.os.Bundle getExtras() { throw new Stub(); }
    public android.net.Uri getData() { throw new Stub(); }
}
