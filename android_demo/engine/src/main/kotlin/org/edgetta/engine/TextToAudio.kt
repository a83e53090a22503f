package org.edgetta.engine

import java.util.concurrent.ConcurrentHashMap

/**
 * A model ready to generate: tokenizer, text encoder, generator and decoder of one bundle on one backend.
 *
 * One object may be shared by threads: sounds are made one after the other. [cancel] and [close] may be called from
 * any thread at any time.
 *
 * @property bundle what the backend was opened with.
 * @property backend runs the three networks; closed with this object, also where it cannot be made.
 * @throws BundleException the tokenizer is damaged.
 */
class TextToAudio @Throws(BundleException::class) constructor(
    val bundle: Bundle,
    val backend: Backend,
) : AutoCloseable {
    private val tokenizer = try {
        bundle.tokenizer()
    } catch (error: BundleException) {
        backend.close()
        throw error
    }
    private val lock = Any()
    private val calls: MutableSet<Call> = ConcurrentHashMap.newKeySet()

    @Volatile
    private var closed = false

    /** One call of [generate]. */
    private class Call {
        @Volatile
        var cancelled = false
    }

    /**
     * Make one sound.
     *
     * @throws RequestException the request cannot be served; the message names field, value and range.
     * @throws BackendException a stage failed (the message names it), or this object is or was closed.
     * @throws CancelledException [cancel] asked to stop.
     */
    @Throws(RequestException::class, BackendException::class, CancelledException::class)
    fun generate(request: GenerationRequest): Result {
        request.checkLimits(bundle.manifest.audio, bundle.manifest.generation)
        val call = Call()
        calls.add(call)
        try {
            return synchronized(lock) { make(request, call) }
        } finally {
            calls.remove(call)
        }
    }

    /** Stop all calls under way before their next stage: they throw [CancelledException]. Later calls go on. */
    fun cancel() {
        for (call in calls) call.cancelled = true
    }

    /** Give memory back. Calls under way stop before their next stage with [BackendException]. Twice is fine. */
    override fun close() {
        closed = true
        synchronized(lock) { backend.close() }
    }

    private fun make(request: GenerationRequest, call: Call): Result {
        val watch = Stopwatch()
        val warnings = ArrayList<String>()
        val audio = bundle.manifest.audio
        val waveforms = request.layers.mapIndexed { number, layer ->
            val (waveform, found) = waveform(request, layer, number, watch, call)
            found.mapTo(warnings) { if (request.layers.size > 1) "\"${layer.prompt}\": $it" else it }
            waveform
        }
        val finished = watch.time(Stage.DECODER) {
            val mixture = Layers.mix(waveforms, request.layers)
            Finish.finish(mixture, audio.channels, mixture.size / audio.channels, audio.sampleRate)
        }
        warnings.addAll(finished.warnings)
        return Result(
            finished.samples,
            audio.channels,
            audio.sampleRate,
            watch.timings(),
            warnings,
            finished.gain,
            request,
            guidance(request),
        )
    }

    /** One sound of a request as the decoder makes it, channel by channel, and what is to be said of its prompt. */
    private fun waveform(
        request: GenerationRequest,
        layer: Layer,
        number: Int,
        watch: Stopwatch,
        call: Call,
    ): Pair<FloatArray, List<String>> {
        giveWay(call)
        val prompt = watch.time(Stage.TOKENIZER) { tokenizer.encode(layer.prompt) }
        giveWay(call)
        val audio = bundle.manifest.audio
        val stages = CheckedBackend(backend, audio)
        val text = watch.time(Stage.TEXT_ENCODER) { stages.textEncoder(prompt.ids) }
        val latent = sample(request, number, stages, text, watch, call)
        giveWay(call)
        val waveform = watch.time(Stage.DECODER) {
            val count = audio.numSamples(request.seconds)
            Finish.cut(stages.decoder(latent, audio.latentFrames(request.seconds), count), audio.channels, count)
        }
        return waveform to prompt.warnings
    }

    private fun sample(
        request: GenerationRequest,
        number: Int,
        stages: CheckedBackend,
        text: TextFeatures,
        watch: Stopwatch,
        call: Call,
    ): FloatArray {
        val limits = bundle.manifest.generation
        val guidance = guidance(request).toFloat()
        val seconds = request.seconds.toFloat()
        val frames = bundle.manifest.audio.latentFrames(request.seconds)
        val size = frames * bundle.manifest.audio.latentChannels
        val velocity = Velocity { latent, time, duration ->
            watch.time(Stage.GENERATOR) {
                stages.generator(latent, frames, time.toFloat(), duration.toFloat(), text, seconds, guidance)
            }
        }
        val draw = { step: Int ->
            // A stream of the seed's noise for every sound and step.
            val stream = (number * GenerationRequest.MAX_STEPS + step).toLong()
            watch.time(Stage.GENERATOR) { Noise.gaussian(request.seed, size, stream) }
        }
        val before = { _: Int -> giveWay(call) }
        return if (limits.sampler == "ping-pong") {
            Sampler.pingPong(velocity, draw(0), request.steps, draw, before)
        } else {
            Sampler.walk(velocity, draw(0), request.steps, before)
        }
    }

    private fun guidance(request: GenerationRequest): Double =
        request.guidance ?: bundle.manifest.generation.defaultGuidance

    private fun giveWay(call: Call) {
        if (closed) throw BackendException("the pipeline is closed; open it again")
        if (call.cancelled) throw CancelledException()
    }
}
