package org.edgetta.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/** Draws a sound as one vertical line per column, from its least to its greatest sample. */
class WaveformView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint().apply {
        color = context.getColor(R.color.accent)
        strokeWidth = 1f
    }
    private var samples = FloatArray(0)
    private var lines = FloatArray(0)

    /** Shows samples in -1..1; of several channels the first. An empty array shows nothing. */
    fun show(samples: FloatArray, channels: Int) {
        this.samples = if (channels > 1) samples.copyOf(samples.size / channels) else samples
        layOut()
        invalidate()
    }

    override fun onSizeChanged(width: Int, height: Int, oldWidth: Int, oldHeight: Int) {
        super.onSizeChanged(width, height, oldWidth, oldHeight)
        layOut()
    }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        canvas.drawLines(lines, paint)
    }

    /** Coordinates are made once per sound and size, not at every frame. */
    private fun layOut() {
        lines = waveformLines(samples, width, height)
    }
}

/**
 * Lines (x0, y0, x1, y1) that draw samples into a box, one for every column; empty if either is.
 *
 * @param samples values, of which those beyond -1..1 are drawn at the edge.
 * @param width columns, pixels.
 * @param height rows, pixels; 1 is at the top.
 */
internal fun waveformLines(samples: FloatArray, width: Int, height: Int): FloatArray {
    if (samples.isEmpty() || width <= 0 || height <= 0) return FloatArray(0)
    val lines = FloatArray(4 * width)
    for (column in 0 until width) {
        val first = (column.toLong() * samples.size / width).toInt()
        val last = maxOf(first + 1, ((column + 1L) * samples.size / width).toInt())
        var low = samples[first]
        var high = low
        for (index in first until last) {
            low = minOf(low, samples[index])
            high = maxOf(high, samples[index])
        }
        val top = (1 - high.coerceIn(-1f, 1f)) / 2 * (height - 1)
        val bottom = (1 - low.coerceIn(-1f, 1f)) / 2 * (height - 1)
        lines[4 * column] = column + 0.5f
        lines[4 * column + 1] = top
        lines[4 * column + 2] = column + 0.5f
        // A line of no length is not drawn.
        lines[4 * column + 3] = maxOf(bottom, top + 1)
    }
    return lines
}
