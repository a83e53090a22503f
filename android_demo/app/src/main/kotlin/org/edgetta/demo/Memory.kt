package org.edgetta.demo

import android.app.ActivityManager
import android.content.Context
import java.io.File
import java.io.IOException

/** Memory of this process and of the device, bytes. */
object Memory {
    private const val STATUS = "/proc/self/status"

    /** Largest resident memory of the process so far, libraries and Java heap included; 0 if the system does not tell. */
    fun peakResident(): Long = try {
        File(STATUS).useLines { lines -> peakResident(lines) }
    } catch (error: IOException) {
        0
    }

    internal fun peakResident(status: Sequence<String>): Long {
        val line = status.firstOrNull { it.startsWith("VmHWM:") } ?: return 0
        val kilobytes = line.removePrefix("VmHWM:").removeSuffix("kB").trim().toLongOrNull() ?: return 0
        return kilobytes * 1024
    }

    /** What the system could give to an app now; null while that is plenty. */
    fun shortage(context: Context): Long? {
        val manager = context.getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager
        val memory = ActivityManager.MemoryInfo().also(manager::getMemoryInfo)
        return memory.availMem.takeIf { memory.lowMemory }
    }
}
