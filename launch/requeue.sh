# shellcheck shell=bash
# Sourced by the job scripts of Slurm beside it: requeues a job that was told to stop or lost a process.

# requeue_if_stopped STATUS: of srun. Above 128 a signal ended it, or it says so (130: told to stop,
# saved). The signals of preemption and time limit reach the processes, not the script; Slurm itself
# requeues a preempted job only where it is still there when the grace time is over. A failure of its
# own (1, 2) would come again. RESTARTS (30) bounds how often a job is requeued.
requeue_if_stopped() {
    local status=$1 job state restarts=${SLURM_RESTART_COUNT:-0}
    [ "$status" -gt 128 ] || return 0
    # One task of an array may have the number of the array, which would mean all of them.
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    job=${job:-$SLURM_JOB_ID}
    state=$(squeue --noheader --format=%T --jobs="$job")
    if [ "$state" != RUNNING ]; then
        echo "status $status, and the job is ${state:-gone}: not requeued"
    elif [ "$restarts" -ge "${RESTARTS:-30}" ]; then
        echo "status $status behind $restarts restarts: not requeued"
    else
        echo "status $status: requeued, restart $((restarts + 1))"
        scontrol requeue "$job"
    fi
}
