package org.edgetta.demo

import java.io.File
import java.io.InputStream
import org.edgetta.engine.Bundle
import org.edgetta.engine.CancelledException

/**
 * Runs those parts of the app that need no Android, for tests to judge. The first argument names the part; the result is
 * printed, an error as "KIND: message".
 */
fun main(arguments: Array<String>) {
    val rest = arguments.drop(1)
    try {
        when (arguments[0]) {
            "install" -> println(install(rest.map(::File))?.let { "${it.root.name} ${it.name}" } ?: "nothing")
            "lines" -> println(waveformLines(numbers(rest[2]), rest[0].toInt(), rest[1].toInt()).joinToString())
            "interleave" -> println(interleave(numbers(rest[1]), rest[0].toInt()).joinToString())
            "names" -> rest.forEach { println(Documents.fileName(it, 7)) }
            "peak" -> println(Memory.peakResident(rest.asSequence()))
            "own peak" -> println(Memory.peakResident())
            "cancel" -> println(cancelled(Bundle.open(File(rest[0]), File(rest[1]))))
        }
    } catch (error: Exception) {
        println("${error.javaClass.simpleName}: ${error.message}")
    }
}

/** The installer on plain folders: assets, storage that adb writes to, the app's own, and its cache. */
private fun install(folders: List<File>): Bundle? {
    val (assets, pushed, files, cache) = folders
    return BundleInstaller(FolderAssets(assets), pushed, files, cache).open()
}

private class FolderAssets(private val root: File) : Assets {
    override fun list(folder: String): List<String> = File(root, folder).list().orEmpty().toList()

    override fun open(path: String): InputStream = File(root, path).inputStream()
}

/** A cancel that comes before the model is open, and whether the next piece of work is free of it. */
private fun cancelled(bundle: Bundle): String {
    val pipeline = Pipeline()
    pipeline.begin()
    pipeline.cancel()
    try {
        pipeline.open(bundle, "ort-fp32", 1)
        return "opened"
    } catch (error: CancelledException) {
        pipeline.begin()
        pipeline.open(bundle, "ort-fp32", 1).use { first ->
            val same = pipeline.open(bundle, "ort-fp32", 1) === first
            val other = pipeline.open(bundle, "ort-fp32", 2) !== first
            return "cancelled, then same $same, other $other, took ${pipeline.openSeconds > 0}"
        }
    }
}

private fun numbers(text: String): FloatArray = text.split(",").filter { it.isNotEmpty() }.map { it.toFloat() }.toFloatArray()
