package android.app;

import android.content.Context;
import android.content.DialogInterface;
import android.view.View;
import edgetta.Device;

public class AlertDialog extends Dialog {
    public static class Builder {
        public Builder(Context context) {}

        public Builder setTitle(int id) {
            return this;
        }

        public Builder setView(View view) {
            Device.sent = view;
            return this;
        }

        public Builder setPositiveButton(int id, DialogInterface.OnClickListener listener) {
            return this;
        }

        public AlertDialog show() {
            return new AlertDialog();
        }
    }
}
