package org.edgetta.demo

import android.app.AlertDialog
import android.content.Context
import android.widget.ArrayAdapter
import android.widget.ListView
import java.io.File
import java.io.IOException
import org.edgetta.engine.Bundle

/** The page about the model: its card and whom its training clips are owed to, read from the bundle. */
object About {
    /** Lines of what the bundle has to say of itself; what was left out of the app is left out here. */
    fun lines(bundle: Bundle): List<String> {
        val manifest = bundle.manifest
        val heading = listOf(bundle.name, manifest.description, manifest.licence, manifest.trainingData, "")
        return heading + listOf("model_card", "attributions").flatMap { name ->
            val entry = manifest.others[name] ?: return@flatMap emptyList()
            try {
                File(bundle.root, entry.file).readLines() + ""
            } catch (error: IOException) {
                emptyList()
            }
        }
    }

    /** Shows lines, of which there are thousands: a list makes only those that are seen. */
    fun show(context: Context, lines: List<String>): AlertDialog {
        val list = ListView(context).apply {
            adapter = ArrayAdapter(context, R.layout.about_line, lines)
            divider = null
        }
        return AlertDialog.Builder(context)
            .setTitle(R.string.about_title)
            .setView(list)
            .setPositiveButton(R.string.close, null)
            .show()
    }
}
