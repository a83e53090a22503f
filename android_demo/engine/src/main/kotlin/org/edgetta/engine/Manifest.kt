package org.edgetta.engine

/** Largest manifest that is read, bytes. */
internal const val MAX_MANIFEST_BYTES = 256L * 1024

/** A protobuf message, and with it an ONNX file, ends below 2 GiB. */
internal const val MAX_FILE_BYTES = (1L shl 31) - 1

internal const val MANIFEST_NAME = "manifest.json"

/** Stages in the order in which they run. */
internal val STAGES = listOf("text_encoder", "generator", "decoder")

/**
 * Everything a runtime must know before it opens a file; checked as a whole (docs/formats/bundle.md).
 *
 * @property name of the model.
 * @property version of the model, three numbers.
 * @property digest SHA-256 of the manifest with this field all zeros, hexadecimal: it identifies the bundle.
 * @property description one sentence.
 * @property licence SPDX expression of the weights.
 * @property trainingData what the model was trained on.
 * @property audio what goes in and out, in samples and seconds.
 * @property vocabularySize rows of the text encoder's table.
 * @property generation defaults and limits of requests.
 * @property tokenizer SentencePiece model.
 * @property variants backends and precisions by name.
 * @property others golden arrays, model card and attributions by their names in the manifest.
 * @property provenance where the bundle comes from.
 */
class Manifest internal constructor(
    val name: String,
    val version: String,
    val digest: String,
    val description: String,
    val licence: String,
    val trainingData: String,
    val audio: AudioSpec,
    val vocabularySize: Int,
    val generation: Generation,
    val tokenizer: TokenizerFile,
    val variants: Map<String, Variant>,
    val others: Map<String, BundleFile>,
    val provenance: Provenance,
) {
    companion object {
        /**
         * Parse and check a manifest.
         *
         * @throws BundleException anything at all is wrong; the message says what.
         */
        fun parse(data: ByteArray): Manifest = ManifestReader.read(data)
    }

    /** Every file entry; a file shared by variants appears once per use. */
    fun files(): List<BundleFile> = listOf(tokenizer) + others.values + variants.values.flatMap { it.files() }
}

/**
 * What goes in and out of the model.
 *
 * @property sampleRate samples per second, Hz.
 * @property channels 1 mono, 2 stereo.
 * @property hop samples per latent frame.
 * @property latentChannels channels of one latent frame.
 * @property minSeconds shortest duration a request may ask for.
 * @property maxSeconds longest duration a request may ask for.
 */
class AudioSpec(
    val sampleRate: Int,
    val channels: Int,
    val hop: Int,
    val latentChannels: Int,
    val minSeconds: Double,
    val maxSeconds: Double,
) {
    /** Exact number of audio frames for a duration in seconds. */
    fun numSamples(seconds: Double): Int = Math.rint(seconds * sampleRate).toInt()

    /** Latent frames that cover a duration: the decoder's output is trimmed to [numSamples]. */
    fun latentFrames(seconds: Double): Int = maxOf(1, Math.ceil(numSamples(seconds).toDouble() / hop).toInt())
}

/**
 * Defaults and limits of requests.
 *
 * @property maxSteps most network steps.
 * @property sampler how more than one step are walked: "euler" or "ping-pong".
 */
class Generation(
    val defaultGuidance: Double,
    val minGuidance: Double,
    val maxGuidance: Double,
    val maxSteps: Int,
    val sampler: String,
)

/**
 * Where a bundle comes from.
 *
 * @property commit of the checkpoint; empty if unknown.
 * @property recipes digest of every recipe that had a part in the files.
 * @property tools version of every tool that wrote them.
 */
class Provenance(
    val commit: String,
    val checkpoint: String,
    val recipes: Map<String, String>,
    val tools: Map<String, String>,
)
