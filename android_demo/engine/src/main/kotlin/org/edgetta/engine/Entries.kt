package org.edgetta.engine

/**
 * One file of the bundle.
 *
 * @property file relative path with forward slashes.
 * @property bytes size.
 * @property sha256 hexadecimal.
 */
open class BundleFile(val file: String, val bytes: Long, val sha256: String) {
    /** Paths and sizes of the files on disk that make up this one, in their order. */
    open fun stored(): List<Pair<String, Long>> = listOf(file to bytes)
}

/**
 * A SentencePiece model.
 *
 * @property maxTokens longest sequence, end of sentence included.
 */
class TokenizerFile(file: String, bytes: Long, sha256: String, val maxTokens: Int) : BundleFile(file, bytes, sha256)

/**
 * Name, type and shape of a graph's input or output.
 *
 * @property dtype "float32" or "int64".
 * @property shape a Long for every axis of fixed length, a String, the name of the length, for every other.
 */
class Port(val name: String, val dtype: String, val shape: List<Any>)

/**
 * A graph.
 *
 * @property partBytes stored as FILE.part-01, FILE.part-02 and so on, each of so many bytes but the last; null: whole.
 */
class StageFile(
    file: String,
    bytes: Long,
    sha256: String,
    val inputs: List<Port>,
    val outputs: List<Port>,
    val partBytes: Long? = null,
) : BundleFile(file, bytes, sha256) {
    override fun stored(): List<Pair<String, Long>> {
        val size = partBytes ?: return super.stored()
        return (0 until (bytes + size - 1) / size).map { index ->
            val number = (index + 1).toString().padStart(2, '0')
            "$file.part-$number" to minOf(size, bytes - index * size)
        }
    }
}

/**
 * The model for one backend in one precision.
 *
 * @property backend "ort", "executorch" or "coreml".
 * @property precision "fp32", "fp16", "int8" or "int4".
 * @property stages graphs of text_encoder, generator and decoder.
 * @property paritySnrDb signal-to-noise ratio of stages against the float model on the golden inputs, dB.
 * @property companions files that the graphs do not work without: what a Core ML package holds besides the program.
 * @property delegate what an ExecuTorch program hands its work to; means nothing for other backends.
 */
class Variant(
    val backend: String,
    val precision: String,
    val stages: Map<String, StageFile>,
    val paritySnrDb: Map<String, Double> = emptyMap(),
    val companions: List<BundleFile> = emptyList(),
    val delegate: String = "xnnpack",
) {
    /** Every file entry of the variant; one that several stages share appears once per use. */
    fun files(): List<BundleFile> = stages.values + companions

    /** Bytes of all files, each counted once. */
    fun size(): Long = files().associate { it.file to it.bytes }.values.sum()
}
