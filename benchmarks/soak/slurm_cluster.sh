# shellcheck shell=bash
# Sourced by slurm.sh: a Slurm cluster of this one machine, in a folder of its own. Needs root, since
# slurmd starts jobs, and the packages slurm-wlm and munge; leaves an installed Slurm alone.

# start_cluster FOLDER CORES: munged, slurmctld and slurmd; what is exported leads clients to them.
start_cluster() {
    local folder=$1 cores=$2 host
    host=$(hostname -s)
    mkdir -p "$folder/state" "$folder/spool"
    chmod 755 "$folder"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    # cred_expire: how long a requeued job waits, 120 s if not told. No control groups and no tracking
    # by them: containers seldom have them. Nothing is accounted for, jobs are remembered instead.
    cat >"$folder/slurm.conf" <<CONF
ClusterName=soak
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17817
SlurmdPort=17818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=86400
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=5,bf_interval=5
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=4096 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
CONF
    # Slurm 22.05 knows no "disabled" yet; nothing above asks for the plugin, but it must load.
    echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf"
    export SLURM_CONF=$folder/slurm.conf
    # Daemons keep what they inherit: a pipe behind this script would never end.
    slurmctld >/dev/null 2>&1 </dev/null
    slurmd >/dev/null 2>&1 </dev/null
}

# stop_cluster FOLDER: ends jobs and daemons of this cluster, by the numbers that they left.
stop_cluster() {
    local folder=$1 daemon pid until
    timeout 20 scancel --user="$(id -un)" 2>/dev/null || true
    until=$((SECONDS + 60))
    # A job has KillWait (30 s) to end; slurmd stays as long as one is there.
    while [ $SECONDS -lt $until ] && [ -n "$(timeout 20 squeue --noheader --states=all \
        --format=%T 2>/dev/null | grep -E 'RUNNING|COMPLETING|PENDING')" ]; do sleep 1; done
    for daemon in slurmd slurmctld munged; do
        [ -e "$folder/$daemon.pid" ] || continue
        pid=$(cat "$folder/$daemon.pid")
        kill "$pid" 2>/dev/null || true
        until=$((SECONDS + 20))
        while [ $SECONDS -lt $until ] && [ -e "/proc/$pid" ]; do sleep 0.2; done
        kill -KILL "$pid" 2>/dev/null || true
    done
}
