package org.edgetta.engine

/** Most numbers in the latent of the longest sound: a configuration cannot ask for gigabytes. */
private const val MAX_LATENT_VALUES = 1L shl 22

/** What a whole number of the configuration is if it is left out, and what it may be. */
private class Whole(val standard: Long, val range: LongRange, val odd: Boolean = false)

private val AUDIO = mapOf(
    "sample_rate" to Whole(44100, 4000L..192000),
    "channels" to Whole(1, 1L..2),
    "hop" to Whole(2048, 1L..65536),
    "latent_channels" to Whole(64, 1L..1024),
)
private val TEXT_ENCODER = mapOf(
    "vocab_size" to Whole(8192, 1L..(1L shl 20)),
    "max_tokens" to Whole(64, 2L..512),
    "width" to Whole(384, 1L..8192),
    "depth" to Whole(4, 0L..64),
    "heads" to Whole(12, 1L..128),
    "feedforward" to Whole(1536, 1L..65536),
)
private val GENERATOR = mapOf(
    "latent_channels" to Whole(64, 1L..1024),
    "text_width" to Whole(384, 1L..8192),
    "width" to Whole(448, 1L..8192),
    "heads" to Whole(7, 1L..128),
    "joint_blocks" to Whole(4, 0L..64),
    "audio_blocks" to Whole(8, 0L..64),
    "feedforward" to Whole(1280, 1L..65536),
    "kernel" to Whole(3, 1L..63, odd = true),
    "stem_kernel" to Whole(7, 1L..63, odd = true),
    "time_features" to Whole(128, 2L..4096),
)
private val CODEC = mapOf(
    "latent_channels" to Whole(64, 1L..1024),
    "n_fft" to Whole(1024, 2L..16384),
    "stft_hop" to Whole(512, 1L..16384),
    "frame_width" to Whole(256, 1L..8192),
    "latent_width" to Whole(512, 1L..8192),
    "encoder_frame_blocks" to Whole(2, 0L..64),
    "encoder_latent_blocks" to Whole(3, 0L..64),
    "decoder_latent_blocks" to Whole(4, 0L..64),
    "decoder_frame_blocks" to Whole(3, 0L..64),
    "expansion" to Whole(3, 1L..16),
    "kernel" to Whole(7, 1L..63, odd = true),
    "tonal_bins" to Whole(256, 0L..8193),
    "bands" to Whole(64, 1L..8193),
    "noise_frames" to Whole(1040, 1L..65536),
    "envelope_steps" to Whole(0, 0L..512),
    "stack" to Whole(1, 1L..64),
)

/**
 * The parts of a model configuration that a runtime needs, read from the whole, which is checked as in Python.
 *
 * @property maxTokens longest token sequence of the text encoder.
 * @property vocabularySize rows of its table.
 */
internal class ModelConfig private constructor(val audio: AudioSpec, val maxTokens: Int, val vocabularySize: Int) {
    companion object {
        /**
         * Check a configuration.
         *
         * @throws IllegalArgumentException an unknown key, a wrong type, or a value out of range or at odds.
         */
        fun read(config: Fields): ModelConfig {
            if (config.has("name")) config.text("name")
            if (config.has("schema_version")) config.whole("schema_version", 1L..1)
            val audio = section(config, "audio")
            val spec = audioSpec(audio, wholes(audio, AUDIO))
            val text = wholes(section(config, "text_encoder"), TEXT_ENCODER, last = true)
            val generator = section(config, "generator")
            if (generator.has("shared_modulation") && generator.any("shared_modulation") !is Boolean) {
                Fields.refuse(generator.at("shared_modulation"), "true or false is expected")
            }
            val generatorWholes = wholes(generator, GENERATOR, last = true)
            val codec = wholes(section(config, "codec"), CODEC, last = true)
            config.end()
            agree(spec, text, generatorWholes, codec)
            return ModelConfig(spec, text.getValue("max_tokens").toInt(), text.getValue("vocab_size").toInt())
        }

        private fun section(config: Fields, name: String): Fields =
            if (config.has(name)) config.fields(name) else Fields(emptyMap(), config.at(name))

        private fun wholes(fields: Fields, table: Map<String, Whole>, last: Boolean = false): Map<String, Long> {
            val values = table.mapValues { (name, whole) ->
                val value = if (fields.has(name)) fields.whole(name, whole.range) else whole.standard
                if (whole.odd && value % 2 == 0L) Fields.refuse(fields.at(name), "must be odd")
                value
            }
            if (last) fields.end()
            return values
        }

        private fun audioSpec(fields: Fields, wholes: Map<String, Long>): AudioSpec {
            val low = if (fields.has("min_seconds")) fields.number("min_seconds", 0.01, 60.0) else 0.5
            val high = if (fields.has("max_seconds")) fields.number("max_seconds", 0.01, 60.0) else 12.0
            fields.end()
            if (low > high) Fields.refuse(fields.at("min_seconds"), "is above max_seconds")
            val spec = AudioSpec(
                sampleRate = wholes.getValue("sample_rate").toInt(),
                channels = wholes.getValue("channels").toInt(),
                hop = wholes.getValue("hop").toInt(),
                latentChannels = wholes.getValue("latent_channels").toInt(),
                minSeconds = low,
                maxSeconds = high,
            )
            if (spec.latentFrames(high).toLong() * spec.latentChannels > MAX_LATENT_VALUES) {
                Fields.refuse(fields.at("max_seconds"), "the latent has more than $MAX_LATENT_VALUES values")
            }
            return spec
        }

        private fun agree(
            audio: AudioSpec,
            text: Map<String, Long>,
            generator: Map<String, Long>,
            codec: Map<String, Long>,
        ) {
            val latent = audio.latentChannels.toLong()
            val stack = codec.getValue("stack")
            if (generator["latent_channels"] != latent || stack * codec.getValue("latent_channels") != latent) {
                Fields.refuse("config", "latent_channels of audio, codec and generator differ")
            }
            if (generator["text_width"] != text["width"]) {
                Fields.refuse("config", "generator.text_width is not text_encoder.width")
            }
            val window = codec.getValue("n_fft")
            if (window % 4 != 0L || 2 * codec.getValue("stft_hop") != window) {
                Fields.refuse("config.codec.stft_hop", "is not half of n_fft, a multiple of four")
            }
            if (audio.hop % codec.getValue("stft_hop") != 0L) {
                Fields.refuse("config", "codec.stft_hop does not divide audio.hop")
            }
            val steps = codec.getValue("envelope_steps")
            if (steps != 0L && codec.getValue("stft_hop") % steps != 0L) {
                Fields.refuse("config", "codec.envelope_steps does not divide codec.stft_hop")
            }
            if (audio.hop % (stack * codec.getValue("stft_hop")) != 0L) {
                Fields.refuse("config", "codec.stack does not divide the STFT frames of audio.hop")
            }
        }
    }
}
