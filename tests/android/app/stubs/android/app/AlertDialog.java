package android.app;

import edgetta.Stub;

public class AlertDialog extends android.app.Dialog {
    public static class Builder {
        public Builder(android.content.Context context) {}
        public Builder setTitle(int id) { throw new Stub(); }
        public Builder setView(android.view.View view) { throw new Stub(); }
        public Builder setPositiveButton(int id, android.content.DialogInterface.OnClickListener listener) { throw new Stub(); }
        public AlertDialog show() { throw new Stub(); }
    }
}
