package org.edgetta.demo

import android.media.AudioAttributes
import android.media.AudioFormat
import android.media.AudioTrack
import android.os.Handler
import android.os.Looper

/** Plays one sound at a time. All calls on the main thread. */
class Player(private val onChange: (playing: Boolean) -> Unit) {
    private val handler = Handler(Looper.getMainLooper())
    private var track: AudioTrack? = null

    /** Whether a sound is heard now. */
    val playing: Boolean
        get() = track != null

    /**
     * Starts a sound, in place of one that still plays.
     *
     * @param samples [channels, frames], channel by channel, in -1..1.
     * @param sampleRate Hz.
     * @throws IllegalStateException the device does not take the sound.
     */
    fun play(samples: FloatArray, channels: Int, sampleRate: Int) {
        stop()
        val frames = samples.size / channels
        val made = build(samples.size, channels, sampleRate)
        try {
            val written = made.write(interleave(samples, channels), 0, samples.size, AudioTrack.WRITE_BLOCKING)
            check(written == samples.size) { "wrote $written of ${samples.size} samples" }
            made.play()
        } catch (error: IllegalStateException) {
            made.release()
            throw error
        }
        track = made
        // A marker at the last frame of a static track is not reported by every device; time is.
        handler.postDelayed(::stop, frames * 1000L / sampleRate + DRAIN_MILLISECONDS)
        onChange(true)
    }

    /** Stops and gives the track back; harmless if nothing plays. */
    fun stop() {
        handler.removeCallbacksAndMessages(null)
        val playing = track ?: return
        track = null
        playing.release()
        onChange(false)
    }

    private fun build(samples: Int, channels: Int, sampleRate: Int): AudioTrack {
        val mask = if (channels == 1) AudioFormat.CHANNEL_OUT_MONO else AudioFormat.CHANNEL_OUT_STEREO
        val attributes = AudioAttributes.Builder()
            .setUsage(AudioAttributes.USAGE_MEDIA)
            .setContentType(AudioAttributes.CONTENT_TYPE_SONIFICATION)
            .build()
        val format = AudioFormat.Builder()
            .setEncoding(AudioFormat.ENCODING_PCM_FLOAT)
            .setSampleRate(sampleRate)
            .setChannelMask(mask)
            .build()
        try {
            // Static: the whole sound is handed over before it starts, so that nothing can run dry.
            return AudioTrack.Builder()
                .setAudioAttributes(attributes)
                .setAudioFormat(format)
                .setTransferMode(AudioTrack.MODE_STATIC)
                .setBufferSizeInBytes(samples * BYTES_PER_SAMPLE)
                .build()
        } catch (error: UnsupportedOperationException) {
            throw IllegalStateException(error.message, error)
        } catch (error: IllegalArgumentException) {
            throw IllegalStateException(error.message, error)
        }
    }

    private companion object {
        const val BYTES_PER_SAMPLE = 4
        const val DRAIN_MILLISECONDS = 200L
    }
}

/** Samples frame by frame, as players take them, of samples channel by channel. */
internal fun interleave(samples: FloatArray, channels: Int): FloatArray {
    if (channels == 1) return samples
    val frames = samples.size / channels
    return FloatArray(samples.size) { index -> samples[index % channels * frames + index / channels] }
}
