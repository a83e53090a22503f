package org.edgetta.engine

/** A backend whose failures and useless results become one line that names backend and stage. */
internal class CheckedBackend(private val backend: Backend, private val audio: AudioSpec) {
    /** Features of ids, [T]. */
    fun textEncoder(ids: LongArray): TextFeatures = run("text_encoder") {
        val text = backend.textEncoder(ids)
        if (text.tokens.isEmpty() || text.tokens.size.toLong() != text.count.toLong() * text.pooled.size) {
            val made = "${text.tokens.size} values for ${text.count} tokens of ${text.pooled.size}"
            throw BackendException("${backend.name}: text_encoder made $made")
        }
        requireFinite("text_encoder", text.tokens)
        requireFinite("text_encoder", text.pooled)
        text
    }

    /** Velocity of the shape of the latent. */
    fun generator(
        latent: FloatArray,
        frames: Int,
        time: Float,
        duration: Float,
        text: TextFeatures,
        seconds: Float,
        guidance: Float,
    ): FloatArray = run("generator") {
        val velocity = backend.generator(latent, frames, time, duration, text, seconds, guidance)
        if (velocity.size != latent.size) {
            throw BackendException("${backend.name}: generator made ${velocity.size} values of ${latent.size}")
        }
        requireFinite("generator", velocity)
        velocity
    }

    /** Waveform of at least [count] samples a channel. */
    fun decoder(latent: FloatArray, frames: Int, count: Int): FloatArray = run("decoder") {
        val waveform = backend.decoder(latent, frames)
        if (waveform.size % audio.channels != 0 || waveform.size / audio.channels < count) {
            val wanted = "${audio.channels} channels of at least $count"
            throw BackendException("${backend.name}: decoder made ${waveform.size} samples, expected $wanted")
        }
        requireFinite("decoder", waveform)
        waveform
    }

    private fun requireFinite(stage: String, values: FloatArray) {
        if (values.any { it.isNaN() || it.isInfinite() }) {
            throw BackendException("${backend.name}: $stage made values that are not finite")
        }
    }

    private inline fun <T> run(stage: String, block: () -> T): T = try {
        block()
    } catch (error: EdgeTtaException) {
        throw error
    } catch (error: OutOfMemoryError) {
        throw BackendException("${backend.name}: $stage needs more memory than there is", error)
    } catch (error: Exception) {
        throw failure(stage, error)
    }

    private fun failure(stage: String, error: Exception): BackendException {
        val message = error.message.orEmpty().trim()
        if (OUT_OF_MEMORY.any { it in message }) {
            return BackendException("${backend.name}: $stage needs more memory than there is", error)
        }
        val line = message.lineSequence().first().take(300).ifEmpty { error.javaClass.simpleName }
        return BackendException("${backend.name}: $stage failed: $line", error)
    }

    private companion object {
        /** How C++ says it, and the arena of ONNX Runtime, whose only failure it is. */
        val OUT_OF_MEMORY = listOf("bad_alloc", "bfc_arena")
    }
}
